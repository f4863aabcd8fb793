#!/bin/sh
# Starts the MLflow server of the image, closed to all but user `admin`, whose password is $MLFLOW_PASSWORD.
set -eu
: "${MLFLOW_PASSWORD:?the password of user admin}"
home="${MLFLOW_HOME:-/var/lib/mlflow}"
umask 077
cat > "$home/auth.ini" <<END
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///$home/auth.db
admin_username = admin
admin_password = $MLFLOW_PASSWORD
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
# Signs the forms of the web page; a new one ends their sessions, nothing else.
MLFLOW_FLASK_SERVER_SECRET_KEY="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export MLFLOW_AUTH_CONFIG_PATH="$home/auth.ini" MLFLOW_FLASK_SERVER_SECRET_KEY
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 1 \
    --backend-store-uri "sqlite:///$home/mlflow.db" --artifacts-destination "$home/artifacts" \
    --allowed-hosts "mlflow:5000,127.0.0.1:5000,localhost:5000"
