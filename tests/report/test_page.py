"""report.html: its source, and the page in a real browser."""

import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browse, needs_browser
from made_evaluation import make_evaluation

from segmentation.metrics import ObjectRules
from segmentation.report import objects
from segmentation.report.figures import charts
from segmentation.report.gallery import ReadImage, gallery, most_different
from segmentation.report.html import render, write_comparison
from segmentation.report.objects import object_cards
from segmentation.report.report import title
from segmentation.types import Classes

HOSTILE = '"><img src=x onerror="document.title=1"><script>document.title="owned"</script>'
NAMES = ("plain", HOSTILE, "${jndi:x} {{ 7*7 }} %00", "ünï </style><b>", "last")
CLASSES = Classes(("sky", "<script>document.title='owned'</script>", "a\"b'c|d", "</title>$x$", "rare"))
BINARY = Classes(("background", "crack"), binary=True)


class Walker(HTMLParser):
    """Collects the elements of a page, its event handlers and the addresses it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.handlers.append(name)
            if name in ("src", "href", "srcset", "action", "data"):
                self.addresses.append(value or "")
            if name == "style":
                self.addresses += re.findall(r"url\(([^)]*)\)", value or "")


def write(folder: Path, classes: Classes) -> Path:
    evaluation, read_image = make_evaluation(folder, NAMES, classes)
    page = folder / "report.html"
    page.write_text(render(evaluation, gallery(evaluation, read_image)))
    return page


@pytest.mark.parametrize("classes", [BINARY, CLASSES], ids=["binary", "multiclass"])
def test_the_page_is_one_file_without_requests_or_foreign_scripts(classes: Classes, tmp_path: Path) -> None:
    text = write(tmp_path, classes).read_text()
    page = Walker(text)
    assert page.elements.count("script") == 1
    assert page.handlers == []
    assert page.elements.count("img") == 3 * len(NAMES)
    assert {address[:5] for address in page.addresses if not address.startswith("#")} == {"data:"}
    assert not re.search(r"@import|https?://", text)
    for name in NAMES:
        assert name not in text or name in ("plain", "last", NAMES[2])


def test_undefined_scores_are_dashes(tmp_path: Path) -> None:
    # No image holds class 1, and none is predicted: nothing of it exists.
    classes = Classes(("one", "ghost", "two"))
    evaluation, read_image = make_evaluation(tmp_path, ["only"], classes)
    nothing = {name: float("nan") for name in evaluation.report["per_class"]["ghost"]} | {"pixels": 0.0}
    evaluation.report["per_class"]["ghost"] = nothing
    evaluation.curves["roc"][1] = {key: [] for key in evaluation.curves["roc"][1]}
    text = render(evaluation, gallery(evaluation, read_image))
    row = re.search(r'<tr data-class="1">.*?</tr>', text, re.DOTALL)
    assert row is not None
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row[0]) == ["-"] * (len(nothing) - 1) + ["0"]
    assert ">nan<" not in text.lower()


def test_absent_classes_fold_away(tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, NAMES, Classes(tuple(f"class {x}" for x in range(30))))
    counts_KK = evaluation.confusion
    counts_KK[3:5], counts_KK[:, 3:5] = 0, 0
    text = render(evaluation, gallery(evaluation, read_image))
    assert text.count("<tr data-class=") == 28
    assert "2 more in neither truth nor prediction" in text and ">class 3, class 4<" in text
    matrix = text.partition('<table class="confusion many">')[2].partition("</table>")[0]
    assert matrix.count("<th scope") == 2 * 28 and matrix.count("<td class=") == 28 * 28
    assert "></td>" not in matrix.partition("<tbody>")[2]  # zero is a number, too


@pytest.mark.parametrize(("name", "share"), [("miou", 0.2), ("calibration_error", 0.8)])
def test_a_full_bar_is_the_best_value(name: str, share: float, tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(tmp_path, NAMES, CLASSES)
    evaluation.report["metrics"][f"test/{name}"] = 0.2
    tile = render(evaluation, []).partition(f">{title(name)}</p>")[2].partition("</section>")[0]
    assert re.search(r"--v:([\d.]+)", tile)[1] == f"{share:.4f}"  # type: ignore[index]


def test_the_head_says_what_was_evaluated_and_a_card_which_score_it_shows(tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, NAMES, BINARY)
    model = evaluation.report["model"]
    model |= {"backbone": {"name": "resnet18"}, "head": {"name": "fcn"}}
    model["training"] = {"epoch": 7, "max_epochs": 30, "loss": "bce_dice"}
    evaluation.report["environment"]["command"] = "python evaluate.py checkpoint=x"
    text = render(evaluation, gallery(evaluation, read_image))
    head = text.partition("<nav>")[0]
    for told in ("resnet18 + fcn", "epoch 7 of 30", "loss bce_dice", "python evaluate.py checkpoint=x"):
        assert f">{told}<" in head
    assert '<span class="place">1</span> <span class="what">IoU</span>' in text


def test_the_curves_of_binary_data_show_the_operating_point_and_chance(tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(tmp_path, NAMES, BINARY)
    roc, pr, _ = charts(evaluation)
    row = evaluation.report["per_class"]["crack"]
    assert (roc.dots[0].y, pr.dots[0].x, pr.dots[0].y) == (row["recall"], row["recall"], row["precision"])
    assert roc.dots[0].x == pytest.approx(1 - evaluation.report["metrics"]["test/specificity"])
    share = row["pixels"] / evaluation.confusion.sum()
    assert pr.lines[-1].dashed and pr.lines[-1].points == [(0, share), (1, share)]
    evaluation.confusion[:] = 0
    assert not [dot for chart in charts(evaluation)[:2] for dot in chart.dots]


@needs_browser
def test_the_outlines_of_objects_are_told_apart_without_colour(tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, NAMES, CLASSES, objects=ObjectRules())
    cards = object_cards(evaluation, read_image)
    errors = [card.scores.objects["misses"] + card.scores.objects["false_alarms"] for card in cards]
    assert errors == sorted(errors, reverse=True) and min(errors) > 0
    for card in cards:
        drawn = [line.kind for line in card.outlines]
        counts = card.scores.objects
        expected = (counts["matches"], counts["misses"], counts["false_alarms"])
        assert (drawn.count("match"), drawn.count("miss"), drawn.count("false_alarm")) == expected
    text = render(evaluation, gallery(evaluation, read_image), cards)
    page = Walker(text)
    assert page.elements.count("script") == 1 and page.handlers == []
    for name in (*NAMES[1:2], *CLASSES.names[1:2]):
        assert name not in text
    areas = evaluation.report["objects"]["all_classes"]
    assert f">{areas['true_area']:,}</td>" in text and f">{areas['predicted_area']:,}</td>" in text
    path = tmp_path / "report.html"
    probe = """
    const style = (kind) => getComputedStyle(document.querySelector(`#objects .pane .${kind}`));
    const drawn = (kind) => [style(kind).strokeDasharray, style(kind).strokeWidth];
    const dashes = ["miss", "false_alarm", "match"].map(drawn);
    document.title = JSON.stringify({dashes, wide: document.documentElement.scrollWidth, view: innerWidth});
    """
    path.write_text(re.sub(r"<meta http-equiv.*?>", "", text) + f"<script>{probe}</script>")
    document, console = browse(path, tmp_path, "--window-size=390,844")
    assert console == []
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert seen["dashes"] == [["5px, 5px", "2.5px"], ["none", "3px"], ["none", "1.2px"]]
    assert seen["wide"] <= seen["view"]
    assert f"{len(NAMES)} shown" in document  # the gallery's own cards alone


def test_the_outlines_fit_in_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, read_image = make_evaluation(tmp_path, NAMES, CLASSES, objects=ObjectRules())
    assert len(object_cards(evaluation, read_image)) == len(NAMES)
    monkeypatch.setattr(objects, "BUDGET", 1)
    monkeypatch.setattr(objects, "OUTLINES", 3)
    (card,) = object_cards(evaluation, read_image)
    counts = [card.scores.objects[name] for name in ("matches", "misses", "false_alarms")]
    assert len(card.outlines) == sum(min(count, 3) for count in counts)
    assert card.left_out == sum(counts) - len(card.outlines)
    assert f"{card.left_out} smaller objects are not drawn" in render(evaluation, [], [card])


@needs_browser
@pytest.mark.parametrize("classes", [BINARY, CLASSES], ids=["binary", "multiclass"])
def test_a_browser_shows_the_page_without_console_messages(classes: Classes, tmp_path: Path) -> None:
    page = write(tmp_path, classes)
    document, console = browse(page, tmp_path)
    assert console == []
    found = re.search(r"<title>(.*?)</title>", document)
    assert found is not None
    assert found[1].startswith("run/best: ")
    assert f"{len(NAMES)} shown" in document  # its script ran
    assert document.count('class="card"') == len(NAMES)
    for label in ("Classes", "Curves", "Confusion", "Images", "How these numbers were measured"):
        assert f">{label}</h2>" in document
    worst = re.findall(r'data-place="(\d+)"', document)
    assert worst == [str(place) for place in range(1, len(NAMES) + 1)]


_PROBE = """
const filter = document.getElementById("filter");
const cards = () => [...document.querySelectorAll(".card")].filter((card) => !card.hidden);
filter.value = "4";
filter.dispatchEvent(new Event("change"));
const rare = cards().map((card) => card.querySelector("h3").textContent);
filter.value = "0";
filter.dispatchEvent(new Event("change"));
const scores = cards().map((card) => Number(card.querySelector(".score").textContent));
document.querySelector("thead button").click();
const table = [...document.querySelectorAll("table.sortable tbody tr")].map((row) => row.dataset.class);
const paper = getComputedStyle(document.body).backgroundColor;
const wide = document.documentElement.scrollWidth;
document.title = JSON.stringify({rare, scores, table, paper, wide, view: innerWidth});
"""


_TURNED = """
const order = document.getElementById("order");
const shown = () => [...document.querySelectorAll(".card")].map((card) => card.querySelector(".score").textContent);
const worst = shown();
order.value = "-1";
order.dispatchEvent(new Event("change"));
document.title = JSON.stringify({worst, best: shown()});
"""


@needs_browser
def test_images_without_a_score_come_last_in_either_order(tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, NAMES, BINARY)
    scores = [0.1, 0.5, 0.9, math.nan, math.nan]
    images = tuple(
        replace(image, scores={**image.scores, "iou": score})
        for image, score in zip(evaluation.images, scores, strict=True)
    )
    cards = [replace(card, scores=images[card.place - 1]) for card in gallery(evaluation, read_image)]
    text = render(replace(evaluation, images=images), cards)
    page = tmp_path / "report.html"
    page.write_text(re.sub(r"<meta http-equiv.*?>", "", text) + f"<script>{_TURNED}</script>")
    found = re.search(r"<title>(.*?)</title>", browse(page, tmp_path)[0], re.DOTALL)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert seen == {
        "worst": ["0.100", "0.500", "0.900", "-", "-"],
        "best": ["0.900", "0.500", "0.100", "-", "-"],
    }


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_filter_sorts_and_the_page_fits_a_phone(scheme: str, tmp_path: Path) -> None:
    page = write(tmp_path, CLASSES)
    # The page's content policy would block the probe.
    probed = re.sub(r"<meta http-equiv.*?>", "", page.read_text()) + f"<script>{_PROBE}</script>"
    page.write_text(probed)
    number = {"dark": 0, "light": 1}[scheme]
    document, _ = browse(
        page, tmp_path, "--window-size=390,844", f"--blink-settings=preferredColorScheme={number}"
    )
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert seen["rare"] == ["plain"]
    assert seen["scores"] == sorted(seen["scores"])
    assert len(seen["scores"]) == len(NAMES)
    assert sorted(seen["table"]) == ["0", "1", "2", "3", "4"]
    assert seen["wide"] <= seen["view"]
    red, green, blue = map(int, re.findall(r"\d+", seen["paper"])[:3])
    assert (red + green + blue > 600) == (scheme == "light")


def test_the_comparison_shows_the_images_that_differ_most(tmp_path: Path) -> None:
    made = {
        name: make_evaluation(tmp_path, NAMES[:3], CLASSES, title=name, shift=shift)
        for name, shift in (("one", 0), ("two", 2))
    }
    evaluations = {name: evaluation for name, (evaluation, _) in made.items()}
    opened = []

    def open_reader(name: str) -> ReadImage:
        opened.append(name)
        return made[name][1]

    write_comparison(tmp_path, evaluations, open_reader)
    assert opened == ["one", "two"]  # each model is loaded once
    text = (tmp_path / "report.html").read_text()
    page = Walker(text)
    assert page.handlers == [] and page.elements.count("article") == 3
    assert page.elements.count("img") == 3 * 3  # truth and two answers
    by_index = {name: {i.index: i.scores["miou"] for i in each.images} for name, each in evaluations.items()}
    spread = [abs(by_index["one"][index] - by_index["two"][index]) for index in range(3)]
    assert most_different(evaluations) == sorted(range(3), key=lambda index: -spread[index])
    assert f"two: mIoU {by_index['two'][0]:.3f}" in text


def test_the_comparison_links_to_the_pages(tmp_path: Path) -> None:
    evaluations = {
        f"{number}_{title}": make_evaluation(tmp_path, names, BINARY, title=f"{title}/best")[0]
        for number, (title, names) in enumerate({"one": NAMES[:3], "two": NAMES}.items(), 1)
    }
    write_comparison(tmp_path, evaluations)
    page = Walker((tmp_path / "report.html").read_text())
    assert page.handlers == []
    assert {"1_one/report.html", "2_two/report.html"} <= set(page.addresses)
    scores = {name: evaluation.report["metrics"]["test/iou"] for name, evaluation in evaluations.items()}
    shown = (tmp_path / "report.md").read_text()
    assert f"| iou | {' | '.join(f'{score:.4f}' for score in scores.values())} |" in shown
    better = max(scores, key=lambda name: scores[name])
    row = re.search(
        r'<tr><th scope="row" [^>]*>IoU</th>.*?</tr>', (tmp_path / "report.html").read_text(), re.DOTALL
    )
    assert row is not None
    best = ["best" in cell for cell in re.findall(r'<td class="([^"]*)"', row[0])]
    assert best == [name == better for name in scores]


_SORTED = """
const table = document.querySelector("table.sortable");
const seen = () => [...table.tBodies[0].rows].map((row) => row.cells[1].dataset.value);
table.querySelectorAll("thead button")[1].click();
document.title = JSON.stringify(seen());
"""


@needs_browser
def test_the_classes_of_a_comparison_sort_by_a_checkpoint(tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(tmp_path, NAMES[:3], CLASSES)
    write_comparison(tmp_path, {"1_a": evaluation, "2_b": evaluation})
    page = tmp_path / "report.html"
    text = page.read_text()
    page.write_text(re.sub(r"<meta http-equiv.*?>", "", text) + f"<script>{_SORTED}</script>")
    found = re.search(r"<title>(.*?)</title>", browse(page, tmp_path)[0], re.DOTALL)
    assert found is not None
    values = [float(value) for value in json.loads(html.unescape(found[1])) if value]
    assert len(values) > 2 and values == sorted(values, reverse=True)
