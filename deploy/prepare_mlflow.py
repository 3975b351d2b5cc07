"""What MLflow's server needs before it starts: accounts and a bucket. Then it becomes the command that it is given."""

import os
import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError
from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore


def keep_accounts() -> None:
    """Make the admin and the services' accounts, or give them the passwords that the secrets hold now."""
    config = read_auth_config()
    store = SqlAlchemyStore()
    store.init_db(config.database_uri)
    accounts = [
        (str(config.admin_username), str(config.admin_password), True),
        ("worker", os.environ.pop("MLFLOW_WORKER_PASSWORD"), False),
        ("serve", os.environ.pop("MLFLOW_SERVE_PASSWORD"), False),
    ]
    for name, password, is_admin in accounts:
        if store.has_user(name):
            store.update_user(name, password=password)
        else:
            store.create_user(name, password, is_admin=is_admin)


def make_bucket() -> None:
    """Make the bucket of the artifacts where it is missing."""
    bucket = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    keep_accounts()
    make_bucket()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
