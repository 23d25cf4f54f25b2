"""The options of `manage.py bench watermark`, apart from what they start: other benches need not import the reader."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Mark pictures, hurt them, read them, and count. Needs no engine, no models and no keys of this deployment.

Without a part named, the attack suite runs: every attack of six groups (valuemetric, codec, geometric, occlusion,
chain, removal) on every picture in both modes, each time with a fresh id under one of three keys. All chance follows
from --seed. Pictures are drawn by rule (text, screens, skies, flats, dark scenes, solids, landscapes) or found in
installed packages; --images takes your own. A fixed third of them is for tuning the mark and is left out of reports.

In the table "!" is below the goal, "?" is below it but within chance for so few pictures. With N pictures a row of
100 % means "above 100 - 370/N %" at 95 % confidence.
"""
EXAMPLES = """\
examples:
  manage.py bench watermark --limit 6                          a first look, some minutes
  manage.py bench watermark --images ~/photos --out report     own photos; report/index.html shows all of it
  manage.py bench watermark --attacks jpeg_30 crop_0.1         two rows only
  manage.py bench watermark --groups chain --mode default      one group, one mode
  manage.py bench watermark --list                             the attacks and what they do
  manage.py bench watermark --negatives 2000 --seed-from 8000  false alarms of the seeds 8000 to 9999
  manage.py bench watermark --collusion --copy --speed         the other parts; each may stand alone
  manage.py bench watermark --video                            codecs, crops and drops on moving clips
  manage.py bench watermark --sweep 40 42 44 46 48 --out r     recovery against PSNR
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench watermark`."""
    which = parser.add_argument_group("pictures and attacks")
    which.add_argument(
        "--images", type=Path, nargs="+", metavar="DIR", help="folders of pictures instead of the own ones"
    )
    which.add_argument("--tune", action="store_true", help="use the pictures kept for tuning, or take --images as such")
    which.add_argument("--limit", type=int, metavar="N", help="at most N pictures, spread over the kinds")
    which.add_argument("--attacks", nargs="+", metavar="NAME", default=[], help="these attacks only (see --list)")
    which.add_argument("--groups", nargs="+", metavar="GROUP", default=[], help="these groups of attacks only")
    which.add_argument(
        "--mode", choices=["default", "durable", "both"], default="both", help="strength (default: both)"
    )
    which.add_argument("--list", action="store_true", help="list the attacks and stop")
    how = parser.add_argument_group("how")
    how.add_argument("--effort", choices=["fast", "full", "deep"], default="deep", help="of the reader (default: deep)")
    how.add_argument("--seed", type=int, default=1, help="of all chance (default: 1)")
    how.add_argument("--keys", type=int, default=3, help="keys the reader tries (default: 3)")
    how.add_argument("--jobs", type=int, help="processes (default: one a core)")
    parts = parser.add_argument_group("other parts; named ones run alone unless attacks or groups are named too")
    parts.add_argument("--negatives", type=int, metavar="N", help="check N pictures that carry no mark of ours")
    parts.add_argument("--seed-from", type=int, default=0, metavar="S", help="first seed of the negatives (default: 0)")
    parts.add_argument(
        "--collusion", type=int, nargs="?", const=50, metavar="N", help="average N outputs (50), notch what stands out"
    )
    parts.add_argument("--copy", action="store_true", help="lift marks off pictures and lay them on others")
    parts.add_argument("--tries", type=int, default=20, metavar="N", help="pictures per --collusion and --copy (20)")
    parts.add_argument("--speed", action="store_true", help="processor time of embedding and reading, one thread")
    parts.add_argument("--video", nargs="*", metavar="CASE", help="the video cases, or the named ones")
    parts.add_argument("--sweep", type=float, nargs="+", metavar="DB", help="run the suite at these PSNRs")
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="the figures as JSON instead of tables")
    out.add_argument("--out", type=Path, metavar="DIR", help="write figures, difference pictures and index.html here")
