"""Where text is: differentiable binarisation (DB), from polygons to a trained detector."""

from anytext_lib.db.labels import LabelMaps, make_label_maps, stack_label_maps
from anytext_lib.db.loss import PRESETS, DBLoss, DBTerms, binarize

__all__ = ["DBLoss", "DBTerms", "LabelMaps", "PRESETS", "binarize", "make_label_maps", "stack_label_maps"]
