"""`make docs`: write the generated pages and tables of docs/."""

from docs.generate import analysis_tables, faults, gke_tables, reference

for page in (analysis_tables, faults, gke_tables, reference):
    page.PAGE.write_text(page.updated(page.PAGE.read_text("utf-8")), "utf-8")
