"""Every error that the project raises on purpose.

    RecsysError                 what a command prints without a stack trace
    ├── ConfigurationError      a configuration file, key or argument breaks a rule
    ├── InputError              a source table cannot be used
    │   ├── SchemaError         columns are missing or of another type
    │   └── RejectedRowsError   more rows break a rule than the configuration allows
    ├── EmptyInputError         nothing to learn from: no sale, no event, no purchase
    ├── SnapshotError           a snapshot is absent, damaged or does not match its manifest
    │   └── DamagedRecordError  one user's record is damaged; all others may be intact
    ├── ModelError              a registered model is absent or does not match the features
    ├── RegistryError           MLflow does not answer
    ├── StoreError              a store of the service is damaged or unreachable
    ├── NightCheckError         a night fails its checks; no snapshot is published
    ├── LeakError               a feature uses data from after its as_of
    ├── StepError               a step of a run failed in Spark
    └── BusyError               another run uses the same folder
        └── LeaseLostError      another run took the folder over, since this one gave no sign of life

A message states name, value, rule and next step.
"""


class RecsysError(Exception):
    """Base class of all errors raised on purpose."""


class ConfigurationError(RecsysError):
    """A configuration file, key or argument breaks a rule."""


class InputError(RecsysError):
    """A source table cannot be used."""


class SchemaError(InputError):
    """Columns are missing or of another type; the message lists all of them."""


class RejectedRowsError(InputError):
    """More rows break a rule than the configuration allows."""


class EmptyInputError(RecsysError):
    """Nothing to learn from: no sale, no event or no purchase."""


class SnapshotError(RecsysError):
    """A snapshot is absent, damaged or does not match its manifest."""


class DamagedRecordError(SnapshotError):
    """One user's record in a snapshot is damaged; the records of all others may be intact."""


class ModelError(RecsysError):
    """A registered model is absent or does not match the features."""


class RegistryError(RecsysError):
    """MLflow, its database or its files do not answer."""


class StoreError(RecsysError):
    """A store of the service is damaged or unreachable."""


class NightCheckError(RecsysError):
    """A night fails its checks; no snapshot is published."""


class LeakError(RecsysError):
    """A feature uses data from after its as_of."""


class StepError(RecsysError):
    """A step of a run failed in Spark; the message gives the start of Spark's error and names the log file."""


class BusyError(RecsysError):
    """Another run uses the same folder."""


class LeaseLostError(BusyError):
    """Another run took the folder over, since this one gave no sign of life; what this one was making is left out."""
