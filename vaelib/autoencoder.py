"""The autoencoder: an encoder and a decoder trained to give back what went in, through a narrow code (chapter 6)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaelib.networks import check_positive_integer, flatten_images, mlp


class Autoencoder(nn.Module):
    """A deterministic encoder and decoder with squared loss; it has no prior over its codes.

    ``z = f_phi(x)``, ``x_hat = g_theta(z)``, loss ``||x - x_hat||^2``. The last layers of both are linear. Without
    hidden layers all of it is linear, and its best weights span the subspace of the first principal components.

    Args:
        data_dim: number of pixels D.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse; () for a linear model.
        latent_dim: length K of the code.
        activation: "relu", "tanh" or "leaky_relu" (slope 0.2).
        seed: seeds the generator that draws the weights.

    Raises: ValueError for a size that is not a positive whole number and for an unknown activation.
    Source: Hinton and Salakhutdinov (2006); the linear case: Baldi and Hornik (1989); chapter 6.
    """

    def __init__(
        self, data_dim: int, hidden_dims: Sequence[int], latent_dim: int, activation: str = "relu", seed: int = 0
    ) -> None:
        super().__init__()
        check_positive_integer("data_dim", data_dim)
        check_positive_integer("latent_dim", latent_dim)
        self.data_dim, self.latent_dim = data_dim, latent_dim
        generator = torch.Generator().manual_seed(seed)
        hidden = tuple(hidden_dims)
        self.encoder = mlp((data_dim, *hidden, latent_dim), activation, generator)
        self.decoder = mlp((latent_dim, *reversed(hidden), data_dim), activation, generator)

    def encode(self, x: Tensor) -> Tensor:
        """Return the code of each image, ``z = f_phi(x)``.

        Shapes: images ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W)`` -> ``(batch, K)``.
        Raises: ValueError for other shapes, integer pixels, NaN or infinity, another device.
        Source: chapter 6.
        """
        return self.encoder(self.check(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return the reconstruction from codes, ``x_hat = g_theta(z)``; nothing confines it to [0, 1].

        Shapes: ``(..., K) -> (..., D)``.
        Raises: ValueError for another width.
        Source: chapter 6.
        """
        if z.shape[-1:] != (self.latent_dim,):
            raise ValueError(f"z has shape {tuple(z.shape)}: its last dimension must be latent_dim = {self.latent_dim}")
        return self.decoder(z)

    def loss(self, x: Tensor, check: bool = True) -> Tensor:
        """Return the squared error of each reconstruction, summed over the pixels and not averaged.

        ``||x - g_theta(f_phi(x))||^2 = sum_d (x_d - x_hat_d)^2``. Train with `vaelib.training.fit` and
        ``objective=lambda model, x, y, step, generator: -model.loss(x, check=False)``: `fit` has checked its data once.

        Shapes: images as for `encode` -> ``(batch,)``, in squared units of a pixel, not in nats.
        Raises: ValueError as `encode` does.
        Source: chapter 6.
        """
        x = self.check(x) if check else x
        return (x - self.decoder(self.encoder(x))).square().sum(-1)

    def check(self, x: Tensor) -> Tensor:
        """Return images as checked rows of the model's own type, ready for ``check=False``.

        Shapes: ``(batch, D)``, ``(batch, H, W)`` or ``(batch, 1, H, W) -> (batch, D)``.
        Raises: ValueError for what can't be images of this model; the message names the remedy.
        """
        return flatten_images(x, self.data_dim, next(self.parameters()), unit_interval=False)
