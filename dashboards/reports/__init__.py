"""Pure rendering: a summary to HTML; charts as SVG."""
