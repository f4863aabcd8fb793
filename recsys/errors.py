"""Every error the project raises on purpose.

    RecsysError                 what a command prints without a stack trace
    ├── ConfigurationError      a configuration file, key or argument breaks a rule
    ├── InputError              a source table cannot be used
    │   ├── SchemaError         columns are missing or of another type
    │   └── RejectedRowsError   more rows break a rule than the configuration allows
    ├── EmptyInputError         nothing to learn from: no sale, no event, no purchase
    ├── SnapshotError           a snapshot is absent, damaged or does not match its manifest
    │   └── DamagedRecordError  one user's record holds what no writer wrote; all others may be whole
    ├── ModelError              a registered model is absent or does not match the features
    ├── StoreError              what the service keeps is damaged, or out of reach
    ├── NightCheckError         a night failed its checks and publishes nothing
    ├── LeakError               a feature knows what comes later
    ├── StepError               a step of a run failed in Spark
    └── BusyError               another run works on the same folder

Messages say name, value, rule and next step.
"""


class RecsysError(Exception):
    """Base of all errors raised on purpose."""


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
    """One user's record in a snapshot holds what no writer wrote; the records of all others may be whole."""


class ModelError(RecsysError):
    """A registered model is absent or does not match the features."""


class StoreError(RecsysError):
    """What the service keeps is damaged, or out of reach."""


class NightCheckError(RecsysError):
    """A night failed its checks and publishes nothing."""


class LeakError(RecsysError):
    """A feature knows what comes later."""


class StepError(RecsysError):
    """A step of a run failed in Spark; the message has what it says first, and names the log."""


class BusyError(RecsysError):
    """Another run works on the same folder."""
