"""The demo reads a page's form as a browser would."""

from __future__ import annotations

from webapp.commands.forms import read_forms

PAGE = """
<form action="/search"><input name="q"></form>
<form method="post" action="/c/x/give">
 <input type="hidden" name="csrf" value="1"><input type="hidden" name="photo" value="a">
 <input type="hidden" name="photo" value="b">
 <label><input type="checkbox" name="purposes" value="personal"> personal</label>
 <label><input type="checkbox" name="adult"> adult</label>
 <input name="typed_name"><textarea name="note"></textarea>
 <button name="answer" value="yes">Yes</button>
</form>
"""


def test_a_form_sends_what_a_person_ticked_and_wrote() -> None:
    search, form = read_forms(PAGE)
    assert search.texts == ["q"]
    assert form.action == "/c/x/give"
    data = form.filled(texts={"typed_name": "Ada"})
    assert data == {
        "csrf": ["1"],
        "photo": ["a", "b"],
        "purposes": ["personal"],
        "adult": ["on"],
        "typed_name": ["Ada"],
        "note": [""],
    }


def test_boxes_that_were_not_ticked_are_not_sent() -> None:
    data = read_forms(PAGE)[1].filled(texts={}, ticks={"adult"})
    assert "purposes" not in data
    assert data["adult"] == ["on"]
