"""What a person sees and touches in a notebook: maps, reviews, charts and bars, still pictures for headless runs."""

from widgets.bars import bars, progress_for
from widgets.box_review import BoxReview
from widgets.charts import balance_chart, bars_chart, curves_chart, show, write_plotly_js
from widgets.cluster_chart import cluster_chart
from widgets.cluster_map import ClusterMap
from widgets.cluster_sheet import cluster_sheet
from widgets.confusion_view import ConfusionBrowser, confusion_chart
from widgets.contact_pages import write_contact_sheets
from widgets.contact_sheet import contact_sheet
from widgets.dashboard_view import show_dashboard
from widgets.duplicate_sheet import duplicate_sheet
from widgets.failure_browser import FailureBrowser, failure_sheet
from widgets.frame_view import FrameBrowser, frame_sheet
from widgets.judge_charts import (
    cluster_score_chart,
    fix_effect_chart,
    honest_chart,
    interval_chart,
    pr_chart,
    sweep_chart,
)
from widgets.map_picture import static_map
from widgets.page_frame import page_frame
from widgets.push_sheet import push_sheets
from widgets.run_monitor import RunMonitor, run_monitor
from widgets.search_chart import history_chart, importance_chart, trials_chart
from widgets.split_explorer import SplitExplorer
from widgets.split_picture import split_picture
from widgets.split_report import split_report_chart

__all__ = [
    "BoxReview",
    "ClusterMap",
    "ConfusionBrowser",
    "FailureBrowser",
    "FrameBrowser",
    "RunMonitor",
    "SplitExplorer",
    "balance_chart",
    "bars",
    "bars_chart",
    "cluster_chart",
    "cluster_score_chart",
    "cluster_sheet",
    "confusion_chart",
    "contact_sheet",
    "curves_chart",
    "duplicate_sheet",
    "failure_sheet",
    "fix_effect_chart",
    "frame_sheet",
    "history_chart",
    "honest_chart",
    "importance_chart",
    "interval_chart",
    "page_frame",
    "pr_chart",
    "progress_for",
    "push_sheets",
    "run_monitor",
    "show",
    "show_dashboard",
    "split_picture",
    "split_report_chart",
    "static_map",
    "sweep_chart",
    "trials_chart",
    "write_contact_sheets",
    "write_plotly_js",
]
