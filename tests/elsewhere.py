"""A device made of main memory: what is to run on a GPU can be run where there is none.

Its tensors hold others, of the processor, which compute. Tensors of two devices in one operation are refused, values
that cross are counted, and under autocast dtypes follow CUDA's rules, which are not those of processors (but casts of
weights are not kept). Speed, CUDA's own results, its graphs and whatever else it refuses are not to be had here.

torch takes in one such device, for good and before the first backward pass, so whoever wants it begins a process.
"""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
BF16, FP32 = torch.bfloat16, torch.float32
aten = torch.ops.aten
crossed: Counter[str] = Counter()  # how often something was "sent" there, or "read" from there
ANSWERS = {  # whose result, or its shape, the host must know
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten._unique2.default, aten.repeat_interleave.Tensor,
}  # fmt: skip
COPIES = (aten.copy_.default, aten._foreach_copy_.default)
libraries: list[torch.library.Library] = []  # what is registered lasts as long as they
# from torch's documentation of automatic mixed precision, as far as anything here uses them
IN_BF16 = ["convolution", "conv2d", "conv_transpose2d.input", "addmm", "mm", "matmul", "linear", "bmm", "einsum"]
IN_FP32 = [
    "erfinv", "exp", "expm1", "log", "log1p", "pow.Tensor_Scalar", "softplus", "layer_norm", "native_layer_norm",
    "binary_cross_entropy_with_logits", "mse_loss", "softmax.int", "log_softmax.int", "cumsum", "sum",
    "sum.dim_IntList", "norm.ScalarOpt_dim", "huber_loss",
]  # fmt: skip
WIDEST = ["addcmul", "index_put"]


class There(torch.Tensor):
    """A tensor of that device."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: "There") -> None:
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def untyped_storage(self) -> torch.UntypedStorage:
        """Which of them share memory is asked by its address."""
        return self.held.untyped_storage()


class Elsewhere(TorchDispatchMode):
    """While it is on, tensors can be made there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on what the tensors hold. Raises RuntimeError if some lie here and some there."""
    tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = {isinstance(x, There) for x in tensors if x.dim() or isinstance(x, There)}  # a CPU's scalar goes with any
    target = isinstance(tensors[0], There) if func in COPIES else True in there
    if len(there) > 1:
        if func not in COPIES:
            raise RuntimeError(f"{func}: tensors of two devices")
        crossed["sent" if target else "read"] += 1
    if func in ANSWERS and True in there:
        crossed["read"] += 1
    if kwargs.get("device") is not None:
        target = torch.device(kwargs["device"]).type == NAME
        if tensors and target != (True in there):
            crossed["sent" if target else "read"] += 1
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = func(*tree_map(held, args), **tree_map(held, kwargs))
    if not target or not any(isinstance(x, torch.Tensor) for x in tree_iter(out)):
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(wrapped, out))


def held(x: Any) -> Any:
    return x.held if isinstance(x, There) else x


def wrapped(x: Any) -> Any:
    return There(x) if isinstance(x, torch.Tensor) else x


def register() -> torch.device:
    """Makes the device known to torch."""
    _setup_privateuseone_for_python_backend(NAME)
    torch.get_device_module(NAME).get_amp_supported_dtype = lambda: [BF16]
    library, others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    # indexing by a list copies the list's tensor below the level at which Python is asked
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in (*IN_BF16, *IN_FP32, *WIDEST):
        library.impl(name, _casting(name), "AutocastPrivateUse1")
    libraries.extend((library, others))
    return torch.device(NAME, 0)


def _empty_strided(*sizes: Any, **options: Any) -> There:
    return There(torch.empty_strided(*sizes, **options | {"device": "cpu"}))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    crossed["sent" if isinstance(target, There) else "read"] += 1
    held(target).copy_(held(source))
    return target


def _casting(name: str) -> Any:
    """The operation under autocast."""
    base, _, overload = name.partition(".")
    operation = getattr(getattr(aten, base), overload or "default")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def is_cast(x: Any) -> bool:
        return isinstance(x, There) and x.dtype in (BF16, FP32)

    def call(*args: Any, **kwargs: Any) -> Any:
        dtype = BF16 if name in IN_BF16 else FP32
        if name in WIDEST and all(x.dtype == BF16 for x in tree_iter((args, kwargs)) if is_cast(x)):
            dtype = BF16

        def cast(x: Any) -> Any:
            return x.to(dtype) if is_cast(x) else x

        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

    return call
