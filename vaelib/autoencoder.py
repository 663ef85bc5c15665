"""The autoencoder: an encoder and a decoder trained to give back what went in, through a narrow code (chapter 6)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaelib import _parts as parts
from vaelib._pixels import check_finite
from vaelib._shapes import check_images, check_shape, check_widths
from vaelib.networks import check_positive_integer, evaluating, first_tensor, seeded


class Autoencoder(nn.Module):
    """A deterministic encoder and decoder with squared loss; it has no prior over its codes.

    ``z = f_phi(x)``, ``x_hat = g_theta(z)``, loss ``||x - x_hat||^2``. The last layers of both are linear. Without
    hidden layers all of it is linear, and its best weights span the subspace of the first principal components.

    Args:
        data_dim: number of pixels D, or a shape (C, H, W), in which images then go in and come out.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse; () for a linear model.
        latent_dim: length K of the code.
        activation: "relu", "tanh" or "leaky_relu" (slope 0.2).
        seed: seeds the generator that draws the weights.
        encoder: your own network, ``(batch, *data_dim) -> (batch, K)``.
        decoder: your own network, ``(batch, K) -> (batch, *data_dim)``.

    Raises:
        ValueError: for a size that is not a positive whole number and for an unknown activation.

    Source:
        Hinton and Salakhutdinov (2006); the linear case: Baldi and Hornik (1989); chapter 6.
    """

    def __init__(
        self,
        data_dim: int | Sequence[int],
        hidden_dims: Sequence[int],
        latent_dim: int,
        activation: str = "relu",
        seed: int = 0,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = check_positive_integer("latent_dim", latent_dim)
        self.data_shape = check_shape("data_dim", data_dim)
        self.data_dim = self.data_shape[0] if len(self.data_shape) == 1 else self.data_shape
        draw = seeded(seed)
        size, hidden = math.prod(self.data_shape), check_widths("hidden_dims", hidden_dims)
        self._encoder_shape = (size,) if encoder is None else self.data_shape
        self.encoder = parts.network("encoder", encoder, (size, *hidden, latent_dim), activation, draw)
        self.decoder = parts.network("decoder", decoder, (latent_dim, *hidden[::-1], size), activation, draw)

    def encode(self, x: Tensor) -> Tensor:
        """Return the code of each image, ``z = f_phi(x)``.

        Shapes:
            images ``(batch, D)``, ``(batch, C, H, W)`` or, grey, ``(batch, H, W)`` -> ``(batch, K)``.

        Raises:
            ValueError: for other shapes, integer pixels, NaN or infinity, another device.

        Source:
            Chapter 6.
        """
        return self._encoded(self.check(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return the reconstruction from codes, ``x_hat = g_theta(z)``; nothing confines it to [0, 1].

        Shapes:
            ``(..., K) -> (..., *data_dim)``.

        Raises:
            ValueError: for another width.

        Source:
            Chapter 6.
        """
        z = parts.checked_codes(z, self.latent_dim, first_tensor(self))
        return parts.run_decoder(self.decoder, z, self.data_shape)

    def loss(self, x: Tensor, check: bool = True) -> Tensor:
        """Return the squared error of each reconstruction, summed over the pixels and not averaged.

        ``||x - g_theta(f_phi(x))||^2 = sum_d (x_d - x_hat_d)^2``. `vaelib.training.fit` minimises its mean.

        Args:
            x: images as for `encode`.
            check: False is for a loop that has checked its data once.

        Shapes:
            ``(batch,)``, in squared units of a pixel, not in nats.

        Raises:
            ValueError: as `encode` does.

        Source:
            Chapter 6.
        """
        x = self.check(x) if check else x
        return (x - self.decode(self._encoded(x))).square().flatten(1).sum(-1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return what the decoder makes of the code of each image, ``g_theta(f_phi(x))``, in eval mode.

        Shapes:
            images as for `encode` -> ``(batch, *data_dim)``.

        Raises:
            ValueError: as `encode` does.
        """
        with evaluating(self):
            return self.decode(self.encode(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return reconstructions, as `reconstruct` does: ``model(x)`` is for looking, training takes `loss`."""
        return self.reconstruct(x)

    def check(self, x: Tensor) -> Tensor:
        """Return images, checked, in the model's own shape and type, ready for ``check=False``.

        Shapes:
            images as for `encode` -> ``(batch, *data_dim)``.

        Raises:
            ValueError: for what can't be images of this model; the message names the remedy.
        """
        return check_images(x, self.data_shape, first_tensor(self), check_finite)

    def _encoded(self, x: Tensor) -> Tensor:
        codes = self.encoder(parts.join(x, None, self._encoder_shape))
        if codes.shape[1:] != (self.latent_dim,):
            raise ValueError(
                f"the encoder returns {tuple(codes.shape)}, not (batch, latent_dim) = (batch, {self.latent_dim})"
            )
        return codes
