"""What a compiled graph hands over as its picture."""

from __future__ import annotations

import pytest

from fanfold import START
from fanfold.errors import UnsupportedError
from tests.langgraph.parts import lettered


def test_a_picture_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    drawing = lettered("a", [(START, "a")]).compile().get_graph()
    drawing.print_ascii()
    assert capsys.readouterr().out == f"{drawing.draw_ascii()}\n"


@pytest.mark.parametrize("way", ["draw_png", "draw_mermaid_png"])
def test_who_wants_pixels_is_told_what_there_is_instead(way: str) -> None:
    with pytest.raises(UnsupportedError, match=r"not drawn as PNG\n  draw_svg\(\) draws it offline"):
        getattr(lettered("a", [(START, "a")]).compile().get_graph(), way)(output_file_path="x.png")
