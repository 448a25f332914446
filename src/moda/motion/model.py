"""The multi-modal diffusion transformer of MoDA (arXiv 2507.03256): coarse-to-fine fusion.

    motion ----.
    speech ----+- four-stream blocks -> motion     -+- two-stream -> all -> one-stream -> velocity
    emotion ---+  (own weights each)    conditions -'  blocks               blocks
    identity --'

One class for every size: each count of blocks may be 0. Axis letters: B batch, T frames, C hidden
channels, D motion, G numbers of the motion that are made from noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.config import MotionModelConfig, Precision
from moda.devices import computing_in
from moda.errors import InputError
from moda.motion.generation import FLOW, Objective, Representation, SampledNumbers
from moda.motion.layers import (
    NUM_TIME_FREQUENCIES,
    Embedder,
    FinalLayer,
    JointBlock,
    ModulationHead,
    OneStreamBlock,
    no_positions,
    rotary_positions,
    time_frequencies,
)
from moda.motion.network import Conditions as AnyConditions
from moda.motion.network import Heard
from moda.motion.reading import SpeechReader
from moda.motion.speech_embedder import make_speech_embedder
from moda.structures import Floats

Conditions: TypeAlias = AnyConditions[Tensor]


class MotionTransformer(nn.Module):
    """Velocity field of the motion flow; a :class:`moda.motion.network.Network` of tensors.

    ``exact_shortcuts`` leaves out work that cannot change the result: T equal copies of the emotion
    and identity tokens become one token with ln T on its attention logit, and the last block
    computes its motion tokens only. False computes the figure literally; tests compare the two.

    Args:
        config: sizes.
        more_blocks: further blocks of two streams, after those of the configuration.
        objective: what the network learns to predict.
        representation: makes what the motion is while it is made from noise.
    """

    emotion_mean: Tensor
    """(num_emotions + 1, D) what each emotion adds to the normalised motion of all frames"""

    def __init__(
        self,
        config: MotionModelConfig,
        *,
        more_blocks: Iterable[nn.Module] = (),
        objective: Objective = FLOW,
        representation: Callable[[MotionModelConfig], Representation] = SampledNumbers,
    ) -> None:
        super().__init__()
        self.config = config
        self.exact_shortcuts = True
        self.objective = objective
        hidden, sizes = config.hidden, config.block_sizes
        self.motion_embedder = Embedder(config.motion_size + config.generated_size, hidden)
        self.identity_embedder = Embedder(config.identity_size, hidden)
        self.time_embedder = Embedder(2 * NUM_TIME_FREQUENCIES, hidden)
        self.emotion_embedder = nn.Embedding(config.num_emotions + 1, hidden)
        self.speech_embedder = make_speech_embedder(config)
        self.four_stream_blocks = nn.ModuleList(
            JointBlock(4, *sizes) for _ in range(config.four_stream_blocks)
        )
        self.two_stream_blocks = nn.ModuleList(
            JointBlock(2, *sizes) for _ in range(config.two_stream_blocks)
        ).extend(more_blocks)
        self.one_stream_blocks = nn.ModuleList(
            OneStreamBlock(*sizes) for _ in range(config.one_stream_blocks)
        )
        self.final_layer = FinalLayer(hidden, config.generated_size)
        self.representation = representation(config)
        if config.mouth_size:
            if self.reader is None:
                self.mouth_head = nn.Linear(hidden, config.mouth_size)
            emotion_mean = torch.zeros(config.num_emotions + 1, config.motion_size)
            self.register_buffer("emotion_mean", emotion_mean)
        self.reset_parameters()

    @property
    def reader(self) -> SpeechReader | None:
        """The speech embedder, if it reads mouth, phones and voices from the speech at once."""
        return self.speech_embedder if isinstance(self.speech_embedder, SpeechReader) else None

    def reset_parameters(self) -> None:
        """Start of training: every block is the identity and the velocity is zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.emotion_embedder.weight, std=0.02)
        heads = [module for module in self.modules() if isinstance(module, ModulationHead)]
        for linear in (*(head.linear for head in heads), self.final_layer.modulation):
            nn.init.zeros_(linear.weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def encode_conditions(
        self,
        speech: Tensor,
        emotion: Tensor,
        identity: Tensor,
        *,
        intensity: Tensor | None = None,
        null_speech: Tensor | None = None,
    ) -> Conditions:
        """Embed what a window is conditioned on.

        ``speech`` (B, T + 2 * context, F), the context being that of the speech embedder's
        configuration; ``emotion`` (B,) integers, ``identity`` (B, 63). ``intensity`` (B,) in 0..1
        moves the emotion towards "none" (default 1). ``null_speech`` (B,) booleans: the flow of
        these samples does not hear the speech.
        """
        tokens = self.speech_embedder(speech)
        mean = self._mean(speech, tokens)
        if null_speech is not None:
            tokens = torch.where(null_speech[:, None, None], self._null_tokens(tokens), tokens)
        return Conditions(
            tokens, self._embed_emotion(emotion, intensity), self.identity_embedder(identity), mean
        )

    def without_speech_and_emotion(self, conditions: Conditions) -> Conditions:
        """The unconditional half of guidance: null speech, no emotion, the same identity."""
        none = self.emotion_embedder.weight[self.config.none_emotion]
        return Conditions(
            self._null_tokens(conditions.speech),
            none.expand_as(conditions.emotion),
            conditions.identity,
            conditions.mean,
        )

    def forward(
        self,
        noisy_motion: Tensor,
        previous_motion: Tensor,
        timestep: Tensor,
        conditions: Conditions,
    ) -> Tensor:
        """Velocity (B, T, G) of ``noisy_motion`` (B, T, G) at ``timestep`` (B,) in 1..1000.

        Another objective than the flow predicts something else in its place.

        ``previous_motion`` (B, 1, D) is the frame before the window, which every frame of the
        window sees; (B, T, D) gives each frame its own. Motion is normalised. ``noisy_motion`` is
        in the model's representation, around the conditions' mean; ``previous_motion`` is whole.
        """
        modulations = self.modulations(timestep, conditions.emotion)
        return self.velocity(noisy_motion, previous_motion, modulations, conditions)

    def modulations(self, timestep: Tensor, emotion: Tensor) -> list[Tensor]:
        """What time step and emotion do to the blocks: one tensor (..., M) for each, in order.

        ``timestep`` (...) broadcasts against the embedded ``emotion`` (B, C). A third of all
        weights takes part here and nowhere else: (S, 1) time steps give modulations (S, B, M) for
        all S steps of a schedule at once.
        """
        condition = F.silu(self.time_embedder(time_frequencies(timestep)) + emotion)
        blocks = (*self.four_stream_blocks, *self.two_stream_blocks, *self.one_stream_blocks)
        return [part.modulations(condition) for part in (*blocks, self.final_layer)]

    def velocity(
        self,
        noisy_motion: Tensor,
        previous_motion: Tensor,
        modulations: Sequence[Tensor],
        conditions: Conditions,
    ) -> Tensor:
        """As :meth:`forward`, from the :meth:`modulations` (B, M) of the time step."""
        num_frames = noisy_motion.shape[1]
        copies = 1 if self.exact_shortcuts else num_frames
        rope, joint_rope, key_bias = self._positions(num_frames, copies, noisy_motion.device)
        following = iter(modulations)

        motion = self.embed_motion(noisy_motion, previous_motion)
        emotion = conditions.emotion[:, None].expand(-1, copies, -1)
        identity = conditions.identity[:, None].expand(-1, copies, -1)

        streams = [motion, conditions.speech, emotion, identity]
        for block in self.four_stream_blocks:
            streams = block(streams, next(following), joint_rope, key_bias)

        motion, *others = streams
        streams = [motion, torch.cat([part.expand_as(motion) for part in others], dim=1)]
        for block in self.two_stream_blocks:
            streams = block(streams, next(following), rope)

        tokens = torch.cat(streams, dim=1)
        num_outputs = num_frames if self.exact_shortcuts else None
        for index, block in enumerate(self.one_stream_blocks, 1):
            is_last = index == len(self.one_stream_blocks)
            tokens = block(tokens, next(following), rope, num_outputs if is_last else None)

        return self.final_layer(tokens[:, :num_frames], next(following))

    def embed_motion(self, noisy_motion: Tensor, previous_motion: Tensor) -> Tensor:
        """Motion tokens (B, T, C), each of its noisy frame and the frame before the window."""
        previous = previous_motion.expand(-1, noisy_motion.shape[1], -1)
        return self.motion_embedder(torch.cat((previous, noisy_motion), dim=-1))

    def _positions(
        self, num_frames: int, copies: int, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotary positions of all 4T tokens; those and the key bias in the four-stream blocks.

        There, emotion and identity have no positions, and each has ``copies`` tokens in place of T.
        """
        head_size = self.config.hidden // self.config.num_heads
        frames = rotary_positions(num_frames, head_size, self.config.rope_base, device=device)
        plain = no_positions(2 * copies, head_size, device=device)
        key_bias = None
        if copies != num_frames:
            key_bias = torch.zeros(2 * num_frames + 2 * copies, device=device)
            key_bias[2 * num_frames :] = math.log(num_frames / copies)
        return torch.cat([frames] * 4), torch.cat((frames, frames, plain)), key_bias

    def _null_tokens(self, tokens: Tensor) -> Tensor:
        return self.speech_embedder.null_token().to(tokens.dtype).expand_as(tokens)

    def mean_mouth(self, speech: Tensor, tokens: Tensor) -> Tensor:
        """(B, T, M) the mean of the mouth, from features with context or their tokens (B, T, C)."""
        if self.reader is not None:
            return self.reader.mouth(speech)
        return self.mouth_head(tokens)

    def _mean(self, speech: Tensor, tokens: Tensor) -> Tensor:
        config = self.config
        if not config.mouth_size:
            return tokens.new_zeros(len(tokens), 1, config.motion_size)
        mouth = self.mean_mouth(speech, tokens)
        return F.pad(mouth, (0, config.motion_size - config.mouth_size))

    def _embed_emotion(self, emotion: Tensor, intensity: Tensor | None) -> Tensor:
        embedding: Tensor = self.emotion_embedder(emotion)
        if intensity is None:
            return embedding
        none = self.emotion_embedder.weight[self.config.none_emotion].expand_as(embedding)
        return torch.lerp(none, embedding, intensity[:, None].to(embedding.dtype))

    @property
    def reads(self) -> bool:
        return self.reader is not None

    def emotion_offsets(self) -> Floats | None:
        return self.floats(self.emotion_mean) if self.config.mouth_size else None

    @torch.inference_mode()
    def hear(self, features: Floats) -> Heard:
        assert self.reader is not None
        sound = self.array(features[None])
        phones = torch.softmax(self.reader.phone_logits(sound)[0], dim=0).T
        return Heard(self.floats(phones), self.floats(self.reader.voice_logits(sound)[0]))

    @torch.inference_mode()
    def mean_of(self, features: Floats) -> Floats:
        sound = self.array(features[None])
        tokens = sound if self.reads else self.speech_embedder(sound)  # a reader needs none
        return self.floats(self._mean(sound, tokens)[0])

    @contextmanager
    def inference(self, precision: Precision = "float32") -> Iterator[None]:
        if self.training:
            raise InputError("the model is in training mode; call model.eval() first")
        with torch.inference_mode(), computing_in(precision, self._device):
            yield

    def array(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self._device)

    def floats(self, values: Tensor) -> Floats:
        return values.detach().float().cpu().numpy()

    def encode(
        self, features: Floats, emotion: int, intensity: float, identity: Floats
    ) -> Conditions:
        device = self._device
        return self.encode_conditions(
            self.array(features[None]),
            torch.tensor([emotion], device=device),
            self.array(identity[None]),
            intensity=torch.tensor([intensity], device=device),
        )

    def with_unconditional(self, conditions: Conditions) -> Conditions:
        halves = zip(self.without_speech_and_emotion(conditions), conditions, strict=True)
        return Conditions(*(torch.cat(half) for half in halves))

    def predict(
        self,
        noisy_motion: Tensor,
        previous_motion: Tensor,
        modulations: Sequence[Tensor],
        conditions: Conditions,
    ) -> Tensor:
        batch = len(conditions.speech)
        motions = (noisy_motion.expand(batch, -1, -1), previous_motion.expand(batch, -1, -1))
        return self.velocity(*motions, modulations, conditions).float()

    def sample(
        self, predict: Callable[[Tensor, int], Tensor], noise: Tensor, schedule: Floats
    ) -> Tensor:
        return self.objective.sample(predict, noise, schedule)

    def represent(self, motion: Tensor) -> Tensor:
        return self.representation.encode(motion)

    def decode(self, generated: Tensor) -> Tensor:
        return self.representation.decode(generated)

    @property
    def _device(self) -> torch.device:
        return self.emotion_embedder.weight.device
