"""The page: what is on it, and what happens where it is touched. What is shown comes from `answers.py`."""

import html
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import gradio as gr

from segmentation.app.answers import (
    FILES,
    VIEWS,
    Answer,
    Model,
    View,
    answer,
    legend,
    objects,
    view,
    write_file,
)
from segmentation.config import AppSettings, Span
from segmentation.errors import UserError
from segmentation.inference.inputs import Input
from segmentation.inference.outputs import ALPHA
from segmentation.inference.video import overlays, predict_video

_STYLE = """
.gradio-container > main {width: 100%; max-width: 1500px}
.files {align-items: center}
.legend {display: flex; flex-wrap: wrap; gap: .3em 1.1em; padding: .2em 0}
.legend span {white-space: nowrap}
.legend i {display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid #8888}
.model b {font-size: 1.1em}
.message {padding: .6em .9em; border-left: 4px solid #d9480f; background: #d9480f1f}
"""
_PRESS = "() => document.getElementById('{}').click()"
_KEPT = 3600  # seconds that uploads and results are kept while the page is open


@dataclass(frozen=True)
class _Column:
    """What the page has of a model; `answer` is what it said of the present picture."""

    model: Model
    answer: gr.State
    title: gr.HTML
    picture: gr.Image
    video: gr.Video
    about: gr.Column
    legend: gr.HTML
    threshold: gr.Slider
    table: gr.Dataframe
    files: dict[str, gr.Button]
    download: gr.DownloadButton

    @property
    def parts(self) -> list[Any]:
        """What changes with the picture, in the order of `filled` and `emptied`."""
        shown = [self.title, self.picture, self.video, self.about, self.legend, self.threshold, self.table]
        return [self.answer, *shown]

    def emptied(self) -> list[Any]:
        """Nothing to show."""
        title = _title(self.model.name)
        return [
            None,
            title,
            gr.Image(None, visible=False),
            gr.Video(None, visible=False),
            gr.Column(visible=False),
        ] + [gr.skip()] * 3

    def filled(self, said: Answer, kind: View, alpha: float, name: str) -> list[Any]:
        """A picture's answer."""
        picture, shares, table = _details(said, kind, alpha, name, None)
        return [
            said,
            _title(self.model.name, f"{1000 * said.seconds:.0f} ms"),
            gr.Image(picture, visible=True),
            gr.Video(None, visible=False),
            gr.Column(visible=True),
            shares,
            self.model.predictor.trained.decision.threshold,
            table,
        ]

    def played(self, path: Path, about: str) -> list[Any]:
        """A video's answer."""
        title = _title(self.model.name, about)
        picture, video = gr.Image(None, visible=False), gr.Video(str(path), visible=True)
        return [None, title, picture, video, gr.Column(visible=False)] + [gr.skip()] * 3


def build_page(models: Sequence[Model], settings: AppSettings, folder: Path) -> gr.Blocks:
    """The page for these models; videos and downloads are written in `folder`."""
    names = list(dict.fromkeys(name for each in models for name in each.predictor.trained.classes.names))
    with gr.Blocks(title="segmentation", analytics_enabled=False, delete_cache=(600, _KEPT)) as page:
        with gr.Row(equal_height=True):
            upload = gr.File(label="A picture or a video", height=150, elem_id="upload")
            with gr.Column():
                kind = gr.Radio(VIEWS, value=VIEWS[0], label="Show", elem_id="view")
                with gr.Row():
                    alpha = gr.Slider(0, 1, ALPHA, step=0.05, label="Opacity", elem_id="opacity", buttons=[])
                    name = gr.Dropdown(names, value=names[1], label="Class", visible=False, elem_id="class")
        message = gr.HTML(visible=False, elem_id="message")
        with gr.Row():
            columns = [_column(model, number) for number, model in enumerate(models)]
        controls = [kind, alpha, name]
        quiet: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "trigger_mode": "always_last",
        }
        upload.change(
            partial(_ask, columns, settings, folder),
            [upload, *controls],
            [message, *(part for column in columns for part in column.parts)],
            api_visibility="private",
        )
        kind.input(
            lambda kind: [gr.Slider(visible=kind == "overlay"), gr.Dropdown(visible=kind == "probability")],
            kind,
            [alpha, name],
            **quiet,
        )
        for column in columns:
            given = [column.answer, *controls, column.threshold]
            gr.on([kind.input, alpha.input, name.input], _picture, given, column.picture, **quiet)
            details = [column.picture, column.legend, column.table]
            column.threshold.input(_details, given, details, **quiet)
            for what, button in column.files.items():
                button.click(
                    partial(_save, what, folder),
                    [column.answer, alpha, column.threshold],
                    [column.download, message],
                    **quiet,
                ).success(js=_PRESS.format(column.download.elem_id))
    return page


@contextmanager
def serve(page: gr.Blocks, settings: AppSettings, port: int) -> Iterator[str]:
    """The page's address while it is served. Nothing of it is shared, and nobody else is asked for fonts."""
    local = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.launch(
        server_name=settings.host,
        server_port=port,
        share=False,
        inbrowser=settings.browser,
        max_file_size=int(settings.max_upload * 1e6),
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        footer_links=[],
        theme=local,
        css=_STYLE,
    )
    try:
        yield address
    finally:
        page.close(verbose=False)


def _column(model: Model, number: int) -> _Column:
    classes = model.predictor.trained.classes
    with gr.Column(min_width=340):
        answered = gr.State(time_to_live=_KEPT)
        title = gr.HTML(_title(model.name), elem_id=f"title-{number}")
        picture = gr.Image(
            format="png",
            show_label=False,
            visible=False,
            interactive=False,
            buttons=["fullscreen"],
            elem_id=f"picture-{number}",
        )
        video = gr.Video(
            show_label=False, visible=False, interactive=False, autoplay=True, elem_id=f"video-{number}"
        )
        with gr.Column(visible=False) as about:
            shares = gr.HTML(elem_id=f"legend-{number}")
            threshold = gr.Slider(
                0,
                1,
                0.5,
                step=0.01,
                label=f"Threshold of {classes.names[1]}",
                visible=classes.binary,
                elem_id=f"threshold-{number}",
                buttons=[],
            )
            with gr.Row():
                buttons = {
                    kind: gr.Button(f"↓ {kind}", size="sm", min_width=70, elem_id=f"{kind}-{number}")
                    for kind in FILES
                }
            download = gr.DownloadButton(visible="hidden", elem_id=f"download-{number}")
            with gr.Accordion("Objects", open=False, elem_id=f"objects-{number}"):
                table = gr.Dataframe(interactive=False, max_height=300, show_label=False, buttons=[])
    return _Column(model, answered, title, picture, video, about, shares, threshold, table, buttons, download)


def _title(name: str, about: str = "") -> str:
    return f'<div class="model"><b>{html.escape(name)}</b> {html.escape(about)}</div>'


def _ask(
    columns: Sequence[_Column],
    settings: AppSettings,
    folder: Path,
    file: str | None,
    kind: View,
    alpha: float,
    name: str,
) -> list[Any]:
    """What all models say of an upload, or why they say nothing."""
    empty = [part for column in columns for part in column.emptied()]
    if file is None:
        return [_message(""), *empty]
    path = Path(file)
    found: list[Any] = []
    try:
        for column in columns:
            if Input(path, PurePath(path.name)).is_video:
                found += column.played(*_play(column.model, path, settings, folder, alpha))
            else:
                found += column.filled(answer(column.model, path, settings), kind, alpha, name)
    except UserError as error:
        return [_message(str(error).replace(str(path), path.name)), *empty]
    return [_message(""), *found]


def _play(model: Model, path: Path, settings: AppSettings, folder: Path, alpha: float) -> tuple[Path, str]:
    """A video of the overlays, and how fast it was made."""
    render = overlays(model.predictor, alpha=alpha, tile=settings.tile, overlap=settings.overlap, legend=True)
    place = Path(tempfile.mkdtemp(dir=folder))
    summary = predict_video(render, path, place, span=Span(end=settings.max_seconds))
    return summary.path, f"{1000 / summary.fps:.0f} ms a frame, {summary.frames} frames"


def _picture(said: Answer | None, kind: View, alpha: float, name: str, threshold: float) -> Any:
    return gr.skip() if said is None else view(said.at(threshold), kind, alpha, name)


def _details(
    said: Answer | None, kind: View, alpha: float, name: str, threshold: float | None
) -> tuple[Any, Any, Any]:
    """The picture, the legend and the table of objects."""
    if said is None:
        return gr.skip(), gr.skip(), gr.skip()
    found = said.at(threshold)
    columns, rows = objects(found)
    table = gr.Dataframe({"headers": columns, "data": rows})
    return view(found, kind, alpha, name), legend(found), table


def _save(kind: str, folder: Path, said: Answer | None, alpha: float, threshold: float) -> tuple[Any, Any]:
    """The file behind the hidden button that the browser then presses, and a message where there is none."""
    if said is None:
        return gr.skip(), gr.skip()
    try:
        path = write_file(said.at(threshold), kind, Path(tempfile.mkdtemp(dir=folder)), said.name, alpha)
    except UserError as error:
        return gr.DownloadButton(value=None), _message(str(error))
    return gr.DownloadButton(value=str(path)), _message("")


def _message(text: str) -> gr.HTML:
    return gr.HTML(f'<div class="message" role="alert">{html.escape(text)}</div>', visible=bool(text))
