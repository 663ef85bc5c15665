"""Pictures of few bytes, without the text that a program leaves in them: its version, the time."""

import io

from PIL import Image, ImageChops, PngImagePlugin


def compact(png: bytes) -> bytes:
    """The same picture in grey (exactly) or in 256 colours: about half the bytes of matplotlib's RGBA, or fewer.

    One that is see-through somewhere keeps its colours. A picture that is compact already, or that cannot be read,
    comes back as it is.
    """
    try:
        image = Image.open(io.BytesIO(png))
        image.load()
        written = getattr(image, "text", {})
        if image.mode in ("L", "P") and not written:
            return png
        if image.mode not in ("RGB", "RGBA") or image.getextrema()[3:] not in ((), ((255, 255),)):
            return _saved(image) if written else png
        colours = image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return png  # left for the reader of the page to complain about
    grey = colours.convert("L")
    is_grey = ImageChops.difference(colours, grey.convert("RGB")).getbbox() is None
    small = grey if is_grey else colours.quantize(256, dither=Image.Dither.NONE)
    small.info = image.info
    return min(_saved(small), _saved(image), key=len)


def _saved(image: Image.Image) -> bytes:
    """The picture as a file without a line of text in it."""
    file = io.BytesIO()
    nothing = PngImagePlugin.PngInfo()
    resolution = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
    image.save(file, "png", optimize=True, pnginfo=nothing, **resolution)
    return file.getvalue()
