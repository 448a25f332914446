"""Colours and type of the page, by day and by night; nothing of it is loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

PREVIEWS = Path(__file__).parent / "previews"
"""Short moving pictures of the examples, made by ``scripts/make_gallery.py previews``."""
DAY = {
    "body_background_fill": "#f6f1e8",
    "body_text_color": "#241d16",
    "body_text_color_subdued": "#63574a",
    "background_fill_primary": "#fffdf9",
    "background_fill_secondary": "#efe8dc",
    "block_background_fill": "#fffdf9",
    "block_label_background_fill": "#fffdf9",
    "block_label_text_color": "#4f4438",
    "block_title_text_color": "#241d16",
    "block_info_text_color": "#63574a",
    "border_color_primary": "#d8ccb9",
    "border_color_accent": "#a63a1c",
    "color_accent_soft": "#f5ddd2",
    "input_background_fill": "#fffdf9",
    "input_border_color": "#b9aa94",
    "input_border_color_focus": "#a63a1c",
    "input_placeholder_color": "#6f6253",
    "link_text_color": "#8f2f14",
    "button_primary_background_fill": "#a63a1c",
    "button_primary_background_fill_hover": "#8a2e14",
    "button_primary_text_color": "#fffaf4",
    "button_secondary_background_fill": "#efe8dc",
    "button_secondary_background_fill_hover": "#e4dac9",
    "button_secondary_text_color": "#241d16",
    "button_cancel_background_fill": "#efe8dc",
    "button_cancel_background_fill_hover": "#e4dac9",
    "button_cancel_text_color": "#8a2311",
    "slider_color": "#a63a1c",
    "checkbox_background_color": "#fffdf9",
    "checkbox_background_color_selected": "#a63a1c",
    "checkbox_border_color": "#8d7f6c",
    "checkbox_border_color_selected": "#a63a1c",
    "checkbox_label_background_fill": "#fffdf9",
    "checkbox_label_background_fill_selected": "#f5ddd2",
    "checkbox_label_text_color": "#241d16",
    "checkbox_label_text_color_selected": "#241d16",
}
NIGHT = {
    "body_background_fill": "#17130f",
    "body_text_color": "#f1e8db",
    "body_text_color_subdued": "#b9ac9a",
    "background_fill_primary": "#211b16",
    "background_fill_secondary": "#2c251e",
    "block_background_fill": "#211b16",
    "block_label_background_fill": "#211b16",
    "block_label_text_color": "#d8ccba",
    "block_title_text_color": "#f1e8db",
    "block_info_text_color": "#b9ac9a",
    "border_color_primary": "#43392e",
    "border_color_accent": "#ef8d67",
    "color_accent_soft": "#48281b",
    "input_background_fill": "#1b1612",
    "input_border_color": "#6b5d4d",
    "input_border_color_focus": "#ef8d67",
    "input_placeholder_color": "#a89a87",
    "link_text_color": "#f3a283",
    "button_primary_background_fill": "#ef8d67",
    "button_primary_background_fill_hover": "#f6a484",
    "button_primary_text_color": "#24100a",
    "button_secondary_background_fill": "#352c23",
    "button_secondary_background_fill_hover": "#43382d",
    "button_secondary_text_color": "#f1e8db",
    "button_cancel_background_fill": "#352c23",
    "button_cancel_background_fill_hover": "#43382d",
    "button_cancel_text_color": "#ffb199",
    "slider_color": "#ef8d67",
    "checkbox_background_color": "#1b1612",
    "checkbox_background_color_selected": "#b4532f",
    "checkbox_border_color": "#8d7f6c",
    "checkbox_border_color_selected": "#ef8d67",
    "checkbox_label_background_fill": "#211b16",
    "checkbox_label_background_fill_selected": "#48281b",
    "checkbox_label_text_color": "#f1e8db",
    "checkbox_label_text_color_selected": "#f1e8db",
}


def theme() -> gr.themes.Base:
    """Warm paper and red chalk; the fonts are those of the reader's system."""
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
    night = {f"{name}_dark": value for name, value in NIGHT.items()}
    return base.set(
        **DAY,
        **night,
        **plain,
        block_label_text_weight="600",
        color_accent=DAY["border_color_accent"],
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
    return STYLE_SHEET + moving


def address(name: str, kind: str) -> str:
    """Where browsers find the preview of an example: standing (jpg) or moving (webp)."""
    return f"gradio_api/file={PREVIEWS / name.lower()}.{kind}"


STYLE_SHEET = """
.dark { --color-accent: #ef8d67; }
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto !important; }
.gradio-container > main, .gradio-container .main { padding-top: 0.75rem !important; width: 100%; }
#heading h1 { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif;
  font-size: 2rem; font-weight: 600; margin: 0; letter-spacing: -0.01em; }
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
#examples .gallery-item::before { content: ""; flex: none; width: 2.8rem; height: 2.8rem;
  border-radius: var(--radius-md); background-size: cover; background-position: top; }
:is(#more, #dub-more, #reenact-more) .form { display: grid; gap: 0.9rem; padding: 0.7rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); background: none; }
:is(#more, #dub-more, #reenact-more) .form > * { min-width: 0 !important; padding: 0; }
:is(#more, #dub-more, #reenact-more) input::placeholder { font-size: 0.8rem; }
#more h2 { font-size: 1.05rem; margin: 0.4rem 0 0; }
:is(#speech, #dub-speech) :is(#time, #duration, .playback, .playback > span)
  { color: var(--body-text-color-subdued); }
.moda-note { margin: 0.4rem 0 0; font-size: 0.9rem; }
#result { position: sticky; top: 0.5rem; }
.moda-status { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  padding: 0.6rem 0.9rem; background: var(--background-fill-secondary); }
.moda-status p { margin: 0; font-variant-numeric: tabular-nums; }
.moda-bar { height: 0.5rem; margin-top: 0.5rem; border-radius: 0.25rem; overflow: hidden;
  background: var(--border-color-primary); }
.moda-bar div { height: 100%; background: var(--border-color-accent);
  transition: width 0.25s linear; }
.moda-failed { border-color: #b91c1c; background: #fef2f2; }
.moda-failed p { color: #7f1d1d; }
.dark .moda-failed { background: #450a0a; }
.dark .moda-failed p { color: #fecaca; }
.moda-small, .moda-small p { color: var(--body-text-color-subdued); font-size: 0.85rem; }
@media (max-width: 640px) {
  #heading h1 { font-size: 1.5rem; }
  #portrait { height: 170px !important; }
  #heading p { font-size: 0.85rem; }
  #examples .gallery-item { flex-direction: column; gap: 0.2rem; font-size: 0.8rem; }
  #result { position: static; }
}
@media (prefers-reduced-motion: reduce) { .moda-bar div { transition: none; } }
"""

HEAD = """
<script>
new MutationObserver(() => {
  document.querySelectorAll(".empty[aria-label]:not([role])").forEach(
    (place) => place.setAttribute("role", "img"));
  document.querySelectorAll("button.boundedheight[aria-label]").forEach(
    (button) => button.removeAttribute("aria-label"));
  document.querySelectorAll("button.playback[aria-label]").forEach((button) => {
    const speed = button.textContent.trim(), name = button.getAttribute("aria-label");
    if (!name.startsWith(speed)) button.setAttribute("aria-label", `${speed}: ${name}`);
  });
}).observe(document, { childList: true, subtree: true });
</script>
"""
"""Names for readers of screens where Gradio's own are none: an empty place, a button with words."""
