"""Language models that the method runs on."""

from itool_pipeline.data.quiet import quieten_imports

quieten_imports()
