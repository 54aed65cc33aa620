"""Records in a folder of Zarr v3: written one after another, in blocks, and read lazily.

The layout: `signals/{name}` [step, layer, direction, unit], `inputs` [step, feature], `tokens`, `timestamps` [step] and
`observed` [step, target], with the sequences one after another: sequence n has the steps from `offsets[n]` to
`offsets[n + 1]`. `prediction` [predicted, output], `prediction_steps` and `prediction_timestamps` [predicted] have
boundaries of their own, `prediction_offsets`, as a sequence has as many predictions as the model makes of it. `ids`
[sequence]; `layer`, `direction`, `unit`, `feature`, `output` and `target` are coordinates. What is not known is absent.

Times are whole microseconds with the units of the CF conventions, so that xarray reads dates; those with a zone are in
UTC. The group's own metadata are written last: a folder that nobody finished is no Zarr group.
"""

from gatescope.zarr_store.layout import SCHEMA_VERSION, need
from gatescope.zarr_store.reader import Reader
from gatescope.zarr_store.writer import Writer, records_kept

__all__ = ["SCHEMA_VERSION", "Reader", "Writer", "need", "records_kept"]
