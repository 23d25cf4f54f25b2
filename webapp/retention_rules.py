"""The rows of the retention schedule: data alone, in English and Chinese (`webapp.retention` carries them out)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from django.conf import settings

Period = Callable[[], timedelta | None]


@dataclass(frozen=True)
class Words:
    """One sentence in the languages of the house."""

    en: str
    zh: str

    def in_(self, locale: str) -> str:
        """The sentence in the language nearest to `locale`."""
        return self.zh if locale.lower().startswith("zh") else self.en


@dataclass(frozen=True)
class Rule:
    """One row. `period` None: no fixed time, `since` says until when. `who` deletes: this house, or its operator."""

    data: Words
    since: Words
    action: Words
    reason: Words
    period: Period
    who: Literal["scheduler", "request", "operator", "nobody"] = "scheduler"
    public: bool = True


def _hours(setting: str) -> Period:
    return lambda: timedelta(hours=getattr(settings, setting))


def _days(setting: str) -> Period:
    return lambda: timedelta(days=getattr(settings, setting))


def _years(setting: str) -> Period:
    return lambda: timedelta(days=365 * getattr(settings, setting))


def _exactly(**period: int) -> Period:
    return lambda: timedelta(**period)


def _no_time() -> None:
    return None


MINIMAL = Words(
    "Kept no longer than the purpose needs (GDPR 5(1)(e)).", "保存时间不超过目的所需（GDPR 第5条第1款e项）。"
)
PROOF = Words(
    "Proof that permission was given and claims could be answered (GDPR 7(1), 17(3)(e)); "
    "never longer than three years after the last contact (740 ILCS 14/15(a)).",
    "证明已获得同意并应对可能的主张（GDPR 第7条第1款、第17条第3款e项）；"
    "不超过最后一次联系后三年（伊利诺伊州 740 ILCS 14/15(a)）。",
)

RULES: dict[str, Rule] = {
    "inputs": Rule(
        Words(
            "Uploaded photos and videos, the face positions found in them, small previews, file names",
            "上传的照片和视频、其中检测到的人脸位置、小预览图、文件名",
        ),
        Words("the end of the last job that uses them", "使用它们的最后一个任务结束时"),
        Words("file and key are destroyed", "销毁文件及其密钥"),
        MINIMAL,
        _hours("INPUT_RETENTION_HOURS"),
    ),
    "unused_inputs": Rule(
        Words("Uploads that no job uses", "没有任务使用的上传文件"),
        Words("the upload, plus the time given above", "上传时（另加上述时间）"),
        Words("file and key are destroyed", "销毁文件及其密钥"),
        MINIMAL,
        _days("CONSENT_LINK_DAYS"),
    ),
    "templates": Rule(
        Words("Measurements of faces (biometric templates)", "人脸测量数据（生物特征模板）"),
        Words("the comparison", "比对完成时"),
        Words(
            "kept in memory only during the work; with the encrypted file of an upload they end as that file does",
            "仅在处理期间存于内存；与上传文件一同加密保存的部分随该文件一起销毁",
        ),
        Words("Purpose fulfilled (740 ILCS 14/15(a), GDPR 9).", "目的已实现（740 ILCS 14/15(a)、GDPR 第9条）。"),
        _no_time,
        who="nobody",
    ),
    "face_list": Rule(
        Words(
            "Entries in the list “never my face”, and of protected persons: an encrypted measurement of the face, made "
            "from a photo that is destroyed at once",
            "“永不使用我的面部”名单及受保护人员的条目：加密的人脸测量数据，由一张随即销毁的照片得出",
        ),
        Words(
            "the person's or a moderator's removal from the list, limit on biometric data, or erasure",
            "当事人或审核员从名单中移除、限制生物识别数据或要求删除时",
        ),
        Words("measurement and key are destroyed", "销毁测量数据及其密钥"),
        Words(
            "The person's own wish, by a tick of its own (GDPR 9(2)(a)), or the ground a moderator recorded.",
            "当事人自己的意愿，单独勾选（GDPR 第9条第2款a项），或审核员记录的依据。",
        ),
        _no_time,
        who="request",
    ),
    "outputs": Rule(
        Words("Results", "生成的结果"),
        Words("publication; at once when a permission is withdrawn", "发布时；如同意被撤回则立即执行"),
        Words("file and key are destroyed", "销毁文件及其密钥"),
        MINIMAL,
        _days("OUTPUT_RETENTION_DAYS"),
    ),
    "parts": Rule(
        Words("Parts of a video that is being made", "制作中视频的片段"),
        Words("the end of the job, however it ends", "任务结束时（无论以何种方式结束）"),
        Words("parts and their key are destroyed", "销毁片段及其密钥"),
        MINIMAL,
        _exactly(days=0),
    ),
    "challenge_clips": Rule(
        Words("Clips of a live check by camera", "摄像头真人验证视频"),
        Words("the decision; a copy for a dispute no longer than this", "作出决定时；争议副本不超过此期限"),
        Words(
            "the encrypted clip is deleted; its hash and scores stay with the record",
            "删除加密保存的视频；其哈希值和得分随记录保留",
        ),
        MINIMAL,
        _days("CHALLENGE_RETENTION_DAYS"),
    ),
    "consent_record": Rule(
        Words(
            "Records of permission: name, contact, signature, the exact words",
            "同意记录：姓名、联系方式、签名、原文",
        ),
        Words("the end of the person's last permission", "当事人最后一项同意结束时"),
        Words(
            "the person's key is destroyed, so that nothing of it can be read; hashes in the ledger stay",
            "销毁当事人的密钥，内容从此无法读取；账本中的哈希值保留",
        ),
        PROOF,
        _years("CONSENT_RETENTION_YEARS"),
    ),
    "unanswered": Rule(
        Words(
            "Questions that were refused or not answered: name, contact, message",
            "被拒绝或未答复的请求：姓名、联系方式、留言",
        ),
        Words("the refusal, or the end of the link", "拒绝时或链接失效时"),
        Words("the person's key is destroyed", "销毁当事人的密钥"),
        MINIMAL,
        _days("UNANSWERED_RETENTION_DAYS"),
    ),
    "consent_events": Rule(
        Words(
            "What happened to a permission and when, under random numbers; uses of it",
            "同意的状态变化、时间及使用情况（仅以随机编号记录）",
        ),
        Words("as long as the ledger is kept", "账本保存期间"),
        Words("kept; names nobody once the person's key is gone", "保留；密钥销毁后不再指向任何人"),
        PROOF,
        _no_time,
        who="nobody",
    ),
    "blocks": Rule(
        Words("The wish not to be asked again, as a keyed hash", "“请勿再询问”的意愿（带密钥的哈希值）"),
        Words("the day named in the wish", "该意愿指定的日期"),
        Words("deleted", "删除"),
        Words("The person's own wish.", "当事人自己的意愿。"),
        _no_time,
    ),
    "peppers": Rule(
        Words("Keyed hashes of address and browser of an answer", "答复时网络地址和浏览器的带密钥哈希值"),
        Words("the end of the month of the answer", "答复当月月底"),
        Words("the key is destroyed: the hashes can be linked to nothing", "销毁密钥：哈希值不再可关联"),
        MINIMAL,
        _exactly(days=0),
    ),
    "declarations": Rule(
        Words("What accounts declare about their rights, in their own words", "账户对其权利的书面声明"),
        Words("the declaration", "作出声明时"),
        Words(
            "the key of the words is destroyed; that a declaration was made stays", "销毁文字的密钥；声明存在的事实保留"
        ),
        PROOF,
        _years("CONSENT_RETENTION_YEARS"),
    ),
    "jobs": Rule(
        Words(
            "Job histories: remarks of people, what automatic checks measured",
            "任务历史：人工备注与自动检查的测量结果",
        ),
        Words("the end of the job", "任务结束时"),
        Words("remarks and measurements are deleted; states and times stay", "删除备注和测量结果；状态和时间保留"),
        Words(
            "Logs of generative services are kept for six months at least (China), and no longer than needed.",
            "依法至少保存六个月，且不超过必要期限。",
        ),
        _days("EVIDENCE_RETENTION_DAYS"),
    ),
    "audit": Rule(
        Words("Who of the operator looked at what, and why", "运营人员查看了什么及其原因"),
        Words("the look", "查看时"),
        Words("kept; the reason's words end with the key they lie under", "保留；原因文字随其密钥一同失效"),
        Words("Proof of who had access (GDPR 5(2), 32).", "访问证明（GDPR 第5条第2款、第32条）。"),
        _no_time,
        who="nobody",
    ),
    "marks": Rule(
        Words(
            "The number of the invisible mark, the signed manifest and the fingerprint of a result",
            "隐形标识编号、已签名的清单以及结果的内容指纹",
        ),
        Words("publication: the life of the mark", "发布时：标识的有效期"),
        Words("kept under random numbers, so that anybody can check a copy", "以随机编号保留，供任何人核验副本"),
        Words(
            "Marking and finding of generated content (EU AI Act 50(2)).",
            "生成内容的标识与识别（欧盟人工智能法第50条第2款）。",
        ),
        _years("MARK_RETENTION_YEARS"),
        who="nobody",
    ),
    "picture_lists": Rule(
        Words(
            "Lists of picture hashes that the operator imported: pictures that may not be used here",
            "运营者导入的图片哈希名单：不得在此使用的图片",
        ),
        Words("the operator's removal of the list", "运营者移除该名单时"),
        Words("hashes and key are destroyed; name and number of the list stay", "销毁哈希及其密钥；保留名单名称与编号"),
        Words("Keep forbidden and harmful content out (GDPR 6(1)(f)).", "防止违禁和有害内容（GDPR 第6条第1款f项）。"),
        _no_time,
        who="operator",
    ),
    "verifications": Rule(
        Words("Answers to “what is this file?”; never the file", "“这是什么文件?”的答复；从不保存文件本身"),
        Words("the answer", "答复时"),
        Words("deleted", "删除"),
        MINIMAL,
        _days("VERIFICATION_RETENTION_DAYS"),
    ),
    "api_answers": Rule(
        Words("Answers that partners may fetch twice", "合作方可重复获取的答复"),
        Words("the answer", "答复时"),
        Words("deleted", "删除"),
        MINIMAL,
        _exactly(hours=24),
    ),
    "messages": Rule(
        Words("Mails and messages on their way", "待发送的邮件和消息"),
        Words("delivery, at which their content goes", "送达时（内容随即清除）"),
        Words("deleted", "删除"),
        MINIMAL,
        _exactly(days=7),
    ),
    "webhook_log": Rule(
        Words(
            "What partners were told of: ids and states, and whether it arrived",
            "告知合作方的事项：编号和状态，以及是否送达",
        ),
        Words("the event", "事件发生时"),
        Words("deleted", "删除"),
        MINIMAL,
        _exactly(days=30),
    ),
    "sessions": Rule(
        Words("Log-ins of accounts", "账户登录会话"),
        Words("their end", "会话结束时"),
        Words("deleted", "删除"),
        MINIMAL,
        _exactly(days=0),
    ),
    "short_lived": Rule(
        Words("Sign-in links, attempts of delivery, counters", "登录链接、投递尝试、计数器"),
        Words("their own end", "各自到期时"),
        Words("deleted", "删除"),
        MINIMAL,
        _exactly(days=0),
    ),
    "leftovers": Rule(
        Words("Half-received uploads and files without a record", "未完成的上传和无记录的文件"),
        Words("the last write", "最后一次写入"),
        Words("deleted", "删除"),
        MINIMAL,
        _exactly(days=1),
    ),
    "accounts": Rule(
        Words("Accounts, organisations, partner keys", "账户、机构、合作方密钥"),
        Words("the end of the contract", "合同终止时"),
        Words("deleted by the operator", "由运营者删除"),
        Words("Contract (GDPR 6(1)(b)).", "合同（GDPR 第6条第1款b项）。"),
        _no_time,
        who="operator",
    ),
    "logs": Rule(
        Words("Logs of the service: numbers of records, no names or addresses", "服务日志：仅记录编号，不含姓名或地址"),
        Words("the entry", "写入时"),
        Words(
            "deleted by the operator's log system, which must be set to this", "由运营者的日志系统删除（须按此设置）"
        ),
        Words("Six months at least (China's rules on generated content).", "至少六个月（中国生成合成内容规定）。"),
        _days("LOG_RETENTION_DAYS"),
        who="operator",
    ),
    "key_backups": Rule(
        Words("Backups of the key store", "密钥库备份"),
        Words("the backup", "备份时"),
        Words(
            "deleted by the operator: a key that lives on in a backup is not destroyed",
            "由运营者删除：仍在备份中的密钥不算已销毁",
        ),
        Words("Erasure must hold (GDPR 17).", "确保删除有效（GDPR 第17条）。"),
        _days("KEY_BACKUP_DAYS"),
        who="operator",
    ),
    "keys": Rule(
        Words("Keys of people and files, wrapped", "当事人及文件的密钥（已包装）"),
        Words("what they lock", "其所加密的数据"),
        Words("destroyed with it", "一同销毁"),
        Words("Security (GDPR 32).", "安全（GDPR 第32条）。"),
        _no_time,
        who="nobody",
        public=False,
    ),
    "none": Rule(
        Words("Tables without personal data", "不含个人数据的表"),
        Words("-", "-"),
        Words("kept", "保留"),
        Words("Not personal data.", "非个人数据。"),
        _no_time,
        who="nobody",
        public=False,
    ),
}
