// Pages opened from disk may not fetch one another: there the search lists titles, without lines of text from the pages.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
