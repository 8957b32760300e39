"""A device that is not the host, simulated on the host: PyTorch's operators refuse tensors of both, as on a GPU.

Values of its tensors are in tensors of the host, which only this module reads. The shapes of tensors that are copied to
the host are recorded. It needs PyTorch's registration of devices in Python, and changes the process: use it in one
of its own.
"""

import torch

NAME = "simulated"
# The shape of each tensor of real numbers that was copied to the host.
COPIED = []
# Operators that take indices from the host, as those of a GPU do.
INDEXED = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}
# What holds the registration.
LIBRARY = []


class OnDevice(torch.Tensor):
    """A tensor of the simulated device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=f"{NAME}:0", **layout)
        tensor.held = held
        return tensor

    # By these a module casts and moves its parameters.
    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts, meta, size, stride):
        return OnDevice(parts["held"])

    # An optimiser assigns it, to make parameters views of a vector.
    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, other):
        self.held = other.held
        torch.Tensor.data.__set__(self, other)

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return on_device(operator, *args, **(kwargs or {}))

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("can't convert a tensor of the simulated device to numpy")
        return self.detach().cpu().numpy()

    def tolist(self):
        return self.numpy(force=True).tolist()

    def __array__(self, dtype=None):
        return self.numpy()


class Generator(torch.Generator):
    """A generator of the host that states another device."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls)
        self.stated = torch.device(device)
        return self

    @property
    def device(self):
        return self.stated


def held(value):
    """What stands for a value in the host's operators."""
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value.held if isinstance(value, OnDevice) else value


def on_device(operator, *args, **kwargs):
    """Run an operator for tensors of the device by that of the host."""
    if operator is torch.ops.aten.copy_.default:
        return copied_to(*args)
    if operator is torch.ops.aten._to_copy.default and kwargs.get("device") is not None:
        return moved(args[0], **kwargs)
    ours, others = {}, []
    args, kwargs = taken(args, ours, others), {name: taken(value, ours, others) for name, value in kwargs.items()}
    if ours and operator not in INDEXED and any(one.ndim for one in others):  # numbers are taken from the host
        raise RuntimeError(f"Expected all tensors to be on the same device: {operator}")
    return returned(operator(*args, **kwargs), ours)


# PyTorch's functions of trees do what these two do, and take as long as all the rest.


def taken(value, ours, others):
    """Return a value, or list of them, for the host's operators; add tensors to those of the device or the others."""
    if isinstance(value, list | tuple):
        return [taken(part, ours, others) for part in value]
    if isinstance(value, OnDevice):
        ours[id(value.held)] = value
    elif isinstance(value, torch.Tensor):
        others.append(value)
    return held(value)


def returned(value, ours):
    """Return a result of the host's operators, or a sequence of them, on the device."""
    if isinstance(value, list | tuple):
        return type(value)(returned(part, ours) for part in value)
    return ours[id(value)] if id(value) in ours else wrapped(value)


def wrapped(value):
    return OnDevice(value) if isinstance(value, torch.Tensor) else value


def copied_to(target, source, non_blocking=False):
    if not isinstance(target, OnDevice):
        record(source)
    held(target).copy_(held(source))
    return target


def moved(tensor, device, dtype=None, **options):
    copy = held(tensor).to(dtype or tensor.dtype, copy=True)
    if torch.device(device).type == NAME:
        return OnDevice(copy)
    record(copy)
    return copy


def record(tensor):
    if tensor.is_floating_point():
        COPIED.append(tuple(tensor.shape))


def register():
    """Make the device known to PyTorch, and return it."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if not LIBRARY:
        _setup_privateuseone_for_python_backend(NAME)
        LIBRARY.append(torch.library.Library("_", "IMPL"))
        LIBRARY[0].fallback(on_device, "PrivateUse1")
    return torch.device(NAME, 0)
