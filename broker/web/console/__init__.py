"""The console: pages for people who would rather look than read. Rendered here, whole without any script."""
