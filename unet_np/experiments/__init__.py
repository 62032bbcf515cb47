"""The paper's experiments (Sec. 4, Tables 1 and 2) on real data, as far as public labels allow.

A fold is trained, predicted, scored and written down by `run_fold`; the recipes stand in
`unet_np.experiments.recipes`. On the command line: ``unet-np experiment em --fold 2``.
"""

from unet_np.experiments.ablation import ablate
from unet_np.experiments.experiment import choose_folds, finished_folds, run_fold, summarise
from unet_np.experiments.export import draw_test_slices, export
from unet_np.experiments.protocol import Places
from unet_np.experiments.recipes import RECIPES, REDUCED, Fold, Recipe, ablations, both_fold, recipe
from unet_np.experiments.search import STEPS as SEARCH_STEPS
from unet_np.experiments.search import search

__all__ = [
    "RECIPES",
    "REDUCED",
    "SEARCH_STEPS",
    "Fold",
    "Places",
    "Recipe",
    "ablate",
    "ablations",
    "both_fold",
    "choose_folds",
    "draw_test_slices",
    "export",
    "finished_folds",
    "recipe",
    "run_fold",
    "search",
    "summarise",
]
