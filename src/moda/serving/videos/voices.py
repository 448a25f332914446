"""Which voices a text can be spoken with here."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic import BaseModel

from moda.serving.openapi import COMMON
from moda.speech_synthesis import espeak_is_installed, espeak_languages
from moda.speech_synthesis.installed import installed_voices

voices_router = APIRouter(prefix="/v1/voices", tags=["videos"], responses=COMMON)


class NamedVoice(BaseModel):
    """A value of the field ``voice``."""

    name: str
    synthesiser: str
    language: str | None
    """What it speaks; none: all languages of the answer"""


class Voices(BaseModel):
    """What a text can be spoken with; both lists are empty where nothing speaks."""

    voices: list[NamedVoice]
    languages: list[str]


@voices_router.get("")
async def read_voices() -> Voices:
    """Voices and languages of texts, natural voices first."""
    return await asyncio.to_thread(_voices)


def _voices() -> Voices:
    return Voices(
        voices=[NamedVoice(**voice._asdict()) for voice in installed_voices()],
        languages=list(espeak_languages()) if espeak_is_installed() else [],
    )
