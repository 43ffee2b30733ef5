"""The hall: the only room that knows HTTP."""
