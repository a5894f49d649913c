"""The gated recurrent unit (Cho et al. 2014), bidirectional, over texts of unequal length.

Both directions of a layer run side by side in one batched product, and their backward pass is
written out, so that the weights' gradient is one product over all time steps instead of one for
each. The second direction reads every text from its own last token: padding is never read.

Shapes: T tokens, B texts, D input width, H hidden width, 2 directions.
"""

from typing import Any

import torch
from torch import Tensor, nn


def reverse_valid(x: Tensor, lengths: Tensor) -> Tensor:
    """Turn every text around within its own length, its padding staying where it is.

    Args:
        x: (T, B, D).
        lengths: (B,) valid tokens of each.
    """
    time = torch.arange(x.shape[0], device=x.device)[:, None]  # (T, 1)
    source = torch.where(time < lengths, lengths - 1 - time, time)  # (T, B)
    return x.gather(0, source[:, :, None].expand_as(x))


def last_valid(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the state at each text's last token: (T, B, D) -> (B, D)."""
    return x[lengths - 1, torch.arange(x.shape[1], device=x.device)]


class _Scan(torch.autograd.Function):
    """h_t = (1 - z_t) n_t + z_t h_(t-1), with h_0 = 0, for all t, and its gradient.

    r_t, z_t = sigmoid(x_t + U h_(t-1) + c), n_t = tanh(x_t + r_t (U h_(t-1) + c)), each with its
    third of x (T, 2, B, 3H), U (2, 3H, H) and c (2, 3H). Products run in the type of ``x`` and
    ``U``; the state is kept in float32 or more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, U: Tensor, c: Tensor) -> Tensor:
        T, _, B, H3 = x.shape
        H = H3 // 3
        weight, bias = U.mT.contiguous(), c[:, None, :].to(x.dtype)
        wide = torch.promote_types(x.dtype, torch.float32)
        states = x.new_zeros(T + 1, 2, B, H, dtype=wide)
        gates = torch.empty(T, 2, B, 4 * H, dtype=wide, device=x.device)
        for t in range(T):
            h = states[t]
            inner = torch.baddbmm(bias, h.to(x.dtype), weight).to(wide)  # (2, B, 3H)
            outer = x[t].to(wide)
            rz = gates[t, :, :, : 2 * H]
            torch.add(outer[..., : 2 * H], inner[..., : 2 * H], out=rz)
            rz.sigmoid_()
            n = gates[t, :, :, 2 * H : 3 * H]
            gates[t, :, :, 3 * H :] = inner[..., 2 * H :]
            torch.addcmul(outer[..., 2 * H :], rz[..., :H], inner[..., 2 * H :], out=n)
            n.tanh_()
            torch.lerp(n, h, rz[..., H:], out=states[t + 1])
        ctx.save_for_backward(U, states, gates)
        ctx.dtype = x.dtype
        return states[1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        U, states, gates = ctx.saved_tensors
        T, _, B, H = grads[0].shape
        dx = torch.empty(T, 2, B, 3 * H, dtype=ctx.dtype, device=U.device)
        dn_inner = torch.empty(T, 2, B, H, dtype=ctx.dtype, device=U.device)
        carried = torch.zeros_like(states[0])
        step = torch.empty(2, B, 3 * H, dtype=states.dtype, device=U.device)
        for t in reversed(range(T)):
            r, z, n, inner = gates[t].split(H, dim=-1)
            dh = carried.add_(grads[0][t])
            dr, dz, dn = step.split(H, dim=-1)
            torch.mul(dh * (1 - z), 1 - n * n, out=dn)
            torch.mul(dh * (states[t] - n), z * (1 - z), out=dz)
            torch.mul(dn * inner, r * (1 - r), out=dr)
            dx[t] = step
            dn.mul_(r)  # what reaches the product inside n
            dn_inner[t] = dn
            carried = torch.baddbmm((dh * z).to(ctx.dtype), step.to(ctx.dtype), U).to(states.dtype)
        d_inner = torch.cat([dx[..., : 2 * H], dn_inner], dim=-1)  # (T, 2, B, 3H)
        flat = d_inner.transpose(0, 1).reshape(2, T * B, 3 * H)
        before = states[:-1].transpose(0, 1).reshape(2, T * B, H).to(ctx.dtype)
        dU = torch.bmm(flat.mT, before)
        dc = flat.sum(dim=1, dtype=states.dtype)
        return dx, dU, dc


class BidirectionalGRU(nn.Module):
    """Layers of two GRUs, one for each direction; weights as ``torch.nn.GRU`` names them.

    Args:
        width: of the input.
        hidden: width of one direction.
        layers: stacked, with dropout between them.
        dropout: share of a layer's outputs zeroed while training.
    """

    def __init__(self, width: int, *, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.layers = layers
        self.dropout = nn.Dropout(dropout)
        bound = hidden**-0.5
        for layer in range(layers):
            size = width if layer == 0 else 2 * hidden
            for suffix in (f"l{layer}", f"l{layer}_reverse"):
                for name, shape in (
                    (f"weight_ih_{suffix}", (3 * hidden, size)),
                    (f"weight_hh_{suffix}", (3 * hidden, hidden)),
                    (f"bias_ih_{suffix}", (3 * hidden,)),
                    (f"bias_hh_{suffix}", (3 * hidden,)),
                ):
                    weight = torch.empty(shape).uniform_(-bound, bound)
                    self.register_parameter(name, nn.Parameter(weight))

    def _both(self, name: str, layer: int) -> Tensor:
        forward, backward = f"{name}_l{layer}", f"{name}_l{layer}_reverse"
        return torch.stack([self.get_parameter(forward), self.get_parameter(backward)])

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Read texts both ways: (B, T, D), (B,) -> (B, 2H), the last layer's two final states."""
        x = x.transpose(0, 1)  # (T, B, D)
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        for layer in range(self.layers):
            both = torch.stack([x, reverse_valid(x, lengths)]).to(dtype)  # (2, T, B, D)
            _, T, B, D = both.shape
            W, b = self._both("weight_ih", layer).to(dtype), self._both("bias_ih", layer).to(dtype)
            inputs = torch.baddbmm(b[:, None, :], both.view(2, T * B, D), W.mT)
            inputs = inputs.view(2, T, B, -1).transpose(0, 1)  # (T, 2, B, 3H)
            U, c = self._both("weight_hh", layer).to(dtype), self._both("bias_hh", layer)
            states = _Scan.apply(inputs, U, c)  # (T, 2, B, H)
            forward, backward = states.unbind(1)
            if layer < self.layers - 1:
                x = self.dropout(torch.cat([forward, reverse_valid(backward, lengths)], dim=-1))
        return torch.cat([last_valid(forward, lengths), last_valid(backward, lengths)], dim=-1)
