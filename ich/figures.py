"""All figures of the study, one name each: `draw_*` takes a table and axes and computes no statistics."""

from ich.agreement_figures import draw_bland_altman, draw_mountain, draw_regression_limits, draw_scatter
from ich.canvas import forget, keep, save_figure, show, subplots, use_style
from ich.cohort_figures import (
    draw_dice_by_type,
    draw_flow,
    draw_spacing_tilt,
    draw_training,
    draw_volume_distribution,
)
from ich.error_figures import (
    draw_confusion,
    draw_error_by_group,
    draw_error_by_volume,
    draw_forest,
    draw_planning,
    draw_reliability,
)
from ich.rendering import draw_surface
from ich.slice_figures import draw_abc, draw_montage, draw_slice, outline_looks

__all__ = [
    "draw_abc",
    "draw_bland_altman",
    "draw_confusion",
    "draw_dice_by_type",
    "draw_error_by_group",
    "draw_error_by_volume",
    "draw_flow",
    "draw_forest",
    "draw_montage",
    "draw_mountain",
    "draw_planning",
    "draw_regression_limits",
    "draw_reliability",
    "draw_scatter",
    "draw_slice",
    "draw_spacing_tilt",
    "draw_surface",
    "draw_training",
    "draw_volume_distribution",
    "forget",
    "keep",
    "outline_looks",
    "save_figure",
    "show",
    "subplots",
    "use_style",
]
