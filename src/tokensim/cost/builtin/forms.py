"""The shipped model's formulas: a roofline whose efficiency is a smooth function of shape.

Every operator lasts a launch, plus latencies that nothing hides, plus a smooth maximum of its arithmetic and
its traffic. Shares of the peaks fall with the edges of tiles (``edge_rows`` and the like: what a dimension is
padded by, on average) and with too few tiles to fill the device (``fill``); data that a cache may hold comes
faster (``cache_bytes``, ``cache_speed``). The coefficients of a form are its fields, in SI units, fitted by
``tools/fit_builtin.py``; all functions take arrays that broadcast, and give seconds.
"""

from __future__ import annotations

from tokensim.cost.builtin.attention_forms import DecodeForm, PrefillForm
from tokensim.cost.builtin.row_forms import CollectiveForm, ExpertsForm, GemmForm, StreamForm

Form = GemmForm | ExpertsForm | DecodeForm | PrefillForm | StreamForm | CollectiveForm

FORMS: dict[str, type[Form]] = {
    "gemm": GemmForm,
    "experts": ExpertsForm,
    "prefill": PrefillForm,
    "prefill_window": PrefillForm,
    "prefill_latent": PrefillForm,
    "decode": DecodeForm,
    "decode_window": DecodeForm,
    "decode_latent": DecodeForm,
    "elementwise": StreamForm,
    "all_reduce": CollectiveForm,
    "all_gather": CollectiveForm,
    "reduce_scatter": CollectiveForm,
    "all_to_all": CollectiveForm,
}
"""The form of each kind of fit; ``_window``: layers with a sliding window (other kernels, or others of their
settings), ``_latent``: multi-head latent attention."""
