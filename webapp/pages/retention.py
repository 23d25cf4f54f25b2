"""The retention schedule, for everybody: /retention, from the table that the scheduler carries out."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language_from_request
from django.views.decorators.http import require_safe

from webapp import retention

WORDS = {
    "en": {
        "lang": "en",
        "title": "What we keep, and how long",
        "lead": "This schedule is carried out by the service itself, every ten minutes. Whoever is shown in a picture "
        "can withdraw and be forgotten earlier, through their own link.",
        "columns": ("What", "How long", "From", "Then", "Why"),
        "forget": "When a person asks to be forgotten, their key is destroyed: what lay under it can never be read "
        "again, here at once, and in backups as soon as those of the keys have ended (last row). Random numbers, dates "
        "and hashes stay as proof that a permission existed.",
        "template": "Measurements of a face are never kept to recognise somebody later, unless that person ticked "
        "that themselves. They are deleted when the purpose is done, at the latest three years after the last contact.",
        "no_period": "no fixed time",
        "controller": "Responsible",
        "contact": "Contact",
        "officer": "Data protection officer",
        "other": "中文",
        "other_lang": "zh-hans",
    },
    "zh": {
        "lang": "zh-Hans",
        "title": "我们保存什么、保存多久",
        "lead": "本时间表由服务自身每十分钟执行一次。图片中出现的人可通过其专属链接随时撤回同意并要求删除。",
        "columns": ("内容", "期限", "起算", "之后", "理由"),
        "forget": "当事人要求删除时，其密钥将被销毁：由该密钥加密的内容在本服务中立即无法再读取，"
        "待密钥备份到期后（见最后一行）备份中也无法读取。"
        "随机编号、日期和哈希值作为曾经存在同意的证明予以保留。",
        "template": "除非当事人本人勾选同意，人脸测量数据绝不会为日后识别而保存；"
        "目的实现后即删除，最迟不超过最后一次联系后三年。",
        "no_period": "无固定期限",
        "controller": "负责方",
        "contact": "联系方式",
        "officer": "数据保护负责人",
        "other": "English",
        "other_lang": "en",
    },
}


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """In the language of `?lang=`, else of the browser."""
    asked = request.GET.get("lang") or get_language_from_request(request)
    locale = "zh" if asked.lower().startswith("zh") else "en"
    words = WORDS[locale]
    rows = [
        {
            "name": row["name"],
            "cells": list(
                zip(
                    words["columns"],
                    (row["data"], row["period"] or words["no_period"], row["since"], row["action"], row["reason"]),
                    strict=True,
                )
            ),
        }
        for row in retention.published(locale)
    ]
    controller = [
        (words["controller"], settings.CONTROLLER_NAME),
        (words["contact"], settings.CONTROLLER_CONTACT),
        (words["officer"], settings.DPO_CONTACT),
    ]
    values = {"words": words, "rows": rows, "controller": [each for each in controller if each[1]]}
    response = render(request, "pages/retention.html", values)
    response.headers["Content-Language"] = str(words["lang"])
    return response
