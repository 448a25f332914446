"""How the page looks: the palette in the variables of Gradio, and rules of its own."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from moda.doors import palette

PREVIEWS = Path(__file__).parent / "previews"
"""Short moving pictures of the examples, made by ``scripts/make_gallery.py previews``."""
COLOURS = {
    "body_background_fill": "back",
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "background_fill_primary": "card",
    "background_fill_secondary": "raised",
    "block_background_fill": "card",
    "block_label_background_fill": "card",
    "block_label_text_color": "soft",
    "block_title_text_color": "ink",
    "block_info_text_color": "soft",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent_soft": "glow",
    "input_background_fill": "field",
    "input_border_color": "edge",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "soft",
    "link_text_color": "accent",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-touched",
    "button_primary_text_color": "on-accent",
    "button_secondary_background_fill": "raised",
    "button_secondary_background_fill_hover": "touched",
    "button_secondary_text_color": "ink",
    "button_cancel_background_fill": "raised",
    "button_cancel_background_fill_hover": "touched",
    "button_cancel_text_color": "wrong",
    "slider_color": "accent",
    "checkbox_background_color": "field",
    "checkbox_background_color_selected": "tick",
    "checkbox_border_color": "edge",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "card",
    "checkbox_label_background_fill_selected": "glow",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
}
"""Which colour of the palette Gradio's variables have."""


def theme() -> gr.themes.Base:
    """The palette, by day and by night; the fonts are those of the reader's system."""
    base = gr.themes.Base(
        primary_hue="orange",
        neutral_hue="stone",
        font=("system-ui", "sans-serif"),
        font_mono=("monospace",),
        radius_size="lg",
    )
    plain = {
        "shadow_drop": "none", "block_shadow": "none", "button_primary_shadow": "none",
        "input_border_width": "1px",
    }  # fmt: skip
    day = {name: palette.DAY[colour] for name, colour in COLOURS.items()}
    night = {f"{name}_dark": palette.NIGHT[colour] for name, colour in COLOURS.items()}
    return base.set(
        **day,
        **night,
        **plain,
        block_label_text_weight="600",
        color_accent=palette.DAY["accent"],
    )


def style_sheet(names: tuple[str, ...]) -> str:
    """The page's rules; examples have the names, in this order."""
    moving = "".join(
        f"#examples .gallery-item:nth-child({number})::before"
        f"{{background-image:url('{address(name, 'jpg')}')}}"
        f"#examples .gallery-item:nth-child({number}):is(:hover,:focus-visible)::before"
        f"{{background-image:url('{address(name, 'webp')}')}}"
        for number, name in enumerate(names, start=1)
    )
    dark = f".dark {{ --color-accent: {palette.NIGHT['accent']}; }}"
    heading = f"#heading h1 {{ font-family: {palette.TITLE}; }}"
    wrong = "".join(
        f"{place}.moda-failed {{ border-color: {colours['wrong']};"
        f" background: {colours['wrong-back']}; }}"
        f"{place}.moda-failed p {{ color: {colours['wrong']}; }}"
        for place, colours in (("", palette.DAY), (".dark ", palette.NIGHT))
    )
    return STYLE_SHEET + dark + heading + wrong + moving


def address(name: str, kind: str) -> str:
    """Where browsers find the preview of an example: standing (jpg) or moving (webp)."""
    return f"gradio_api/file={PREVIEWS / name.lower()}.{kind}"


STYLE_SHEET = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto !important; }
.gradio-container > main, .gradio-container .main { padding-top: 0.75rem !important; width: 100%; }
#heading h1 { font-size: 2rem; font-weight: 600; margin: 0; letter-spacing: -0.01em; }
#heading p { margin: 0; color: var(--body-text-color-subdued); }
:focus-visible { outline: 3px solid var(--border-color-accent) !important; outline-offset: 2px; }
#generate, #dub, #reenact { font-size: 1.15rem; min-height: 3.25rem; }
#status .html-container { padding: 0; }
:is(#speech, #dub-speech) :is(.audio-container, .audio-container > .wrap, button > .wrap)
  { height: auto; min-height: 7.5rem; padding-top: 0.5rem; }
#examples .label svg { display: none; }
#examples .block > .gallery { display: flex; gap: 0.5rem; border: 0; padding: 0; }
#examples .gallery-item { flex: 1; display: flex; align-items: center; gap: 0.5rem; padding: 0.3rem;
  min-height: 3.4rem; text-align: left; background: var(--button-secondary-background-fill);
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  color: var(--body-text-color); font-size: 0.875rem; cursor: pointer; }
#examples .gallery-item > div { padding: 0; }
#examples .gallery-item:hover { border-color: var(--border-color-accent); }
#examples .gallery-item::before { content: ""; flex: none; width: 4.2rem; height: 4.2rem;
  border-radius: var(--radius-md); background-size: cover; background-position: top; }
:is(#more, #dub-more, #reenact-more) .form { display: grid; gap: 0.9rem; padding: 0.7rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); background: none; }
:is(#more, #dub-more, #reenact-more) .form > * { min-width: 0 !important; padding: 0; }
:is(#more, #dub-more, #reenact-more) input::placeholder { font-size: 0.8rem; }
input:placeholder-shown { text-overflow: ellipsis; }
#more h2 { font-size: 1.05rem; margin: 0.4rem 0 0; }
:is(#speech, #dub-speech) :is(#time, #duration, .playback, .playback > span)
  { color: var(--body-text-color-subdued); }
:is(#speech, #dub-speech) .play-pause-wrapper > button { margin: 0 0.25rem; }
.moda-note { margin: 0.4rem 0 0; font-size: 0.9rem; }
#result { position: sticky; top: 0.5rem; }
#result .block:has(video) { background: var(--background-fill-secondary); }
.moda-status { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  padding: 0.6rem 0.9rem; background: var(--background-fill-secondary); }
.moda-status p { margin: 0; font-variant-numeric: tabular-nums; }
.moda-bar { height: 0.5rem; margin-top: 0.5rem; border-radius: 0.25rem; overflow: hidden;
  background: var(--border-color-primary); }
.moda-bar div { height: 100%; background: var(--border-color-accent);
  transition: width 0.25s linear; }
.moda-small, .moda-small p { color: var(--body-text-color-subdued); font-size: 0.85rem; }
@media (max-width: 640px) {
  #heading h1 { font-size: 1.5rem; }
  #portrait { height: 170px !important; }
  #heading p { font-size: 0.85rem; }
  #examples .gallery-item { flex-direction: column; gap: 0.2rem; font-size: 0.8rem; }
  #examples .gallery-item::before { width: 2.8rem; height: 2.8rem; }
  #result { position: static; }
}
@media (prefers-reduced-motion: reduce) { .moda-bar div { transition: none; } }
"""

HEAD = """
<script>
new MutationObserver(() => {
  document.querySelectorAll(".empty[aria-label]:not([role])").forEach(
    (place) => place.setAttribute("role", "img"));
  document.querySelectorAll(".loading:not([role])").forEach(
    (place) => place.setAttribute("role", "status"));
  document.querySelectorAll("button.boundedheight[aria-label]").forEach(
    (button) => button.removeAttribute("aria-label"));
  document.querySelectorAll("button.playback[aria-label]").forEach((button) => {
    const speed = button.textContent.trim(), name = button.getAttribute("aria-label");
    if (!name.startsWith(speed)) button.setAttribute("aria-label", `${speed}: ${name}`);
  });
}).observe(document, { childList: true, subtree: true });
</script>
"""
"""Names for readers of screens where Gradio has none: empty places, loading, buttons with words."""
