"""Measurements made elsewhere: bundles, once-for-all's tables, lists of whole networks."""
