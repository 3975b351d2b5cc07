#!/bin/sh
# Makes one database and one user each for MLflow, MLflow's sign-in and Prefect; runs once, on a new volume.
set -eu

for user in mlflow mlflow_auth prefect; do
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set user="$user" --set file="${SECRETS:-/run/secrets}/${user}_db" <<'SQL'
-- A statement that fails would stand in the log, password and all.
SET log_min_error_statement = panic;
SET log_statement = none;
\set password `cat :'file'`
CREATE ROLE :"user" LOGIN PASSWORD :'password';
CREATE DATABASE :"user" OWNER :"user" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"user" FROM PUBLIC;
SQL
done
