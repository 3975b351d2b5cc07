"""STAC items of the scenes that tests make, and a web server for them that reads ranges."""

import json
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio.warp import transform_bounds

from tests.sources.transfer.conftest import FileServer, Handler
from tests.web import web_server

# Earth Search's names of the bands, and those of the agency.
COMMON = {"B02": "blue", "B03": "green", "B05": "rededge1"}


def make_item(files, modality="s2", identifier="S2A_33UUP_20200607_0_L2A", **properties):
    """An item as JSON of rasters by asset key, each a path or the fields of an asset, with its href from the path."""
    files = {key: value if isinstance(value, dict) else {"href": str(value)} for key, value in files.items()}
    path = next(Path(asset["path"] if "path" in asset else asset["href"]) for asset in files.values())
    with rasterio.open(path) as dataset:
        left, bottom, right, top = box = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    number = modality[1:]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": identifier,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(box),
        "properties": {
            "datetime": "2020-06-07T10:10:31Z",
            "constellation": f"sentinel-{number}",
            "platform": f"sentinel-{number}a",
            **properties,
        },
        "links": [],
        "assets": {
            key: {"type": "image/tiff; application=geotiff", "roles": ["data"]}
            | {name: value for name, value in asset.items() if name != "path"}
            for key, asset in files.items()
        },
    }


def s2_files(scenes, **fields):
    """Assets of a scene's S2 files under Earth Search's names, with relative links and further fields each."""
    paths = {COMMON[path.stem[-3:]]: path for path in sorted(scenes.s2.iterdir())}
    return {
        key: {"path": path, "href": f"./s2/{path.name}", "eo:bands": [{"name": key}], **fields}
        for key, path in paths.items()
    }


def write_item(path, item):
    path.write_text(json.dumps(item))
    return path


class WebHandler(Handler):
    """Serves files by range, answers HEAD, and redirects what is a text that begins with `to `."""

    def do_GET(self):
        self.answered("GET")

    def do_HEAD(self):
        self.answered("HEAD")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answered("POST")

    def answered(self, method):
        told, path = self.told, self.path.split("?")[0]
        told.hits.setdefault(path, []).append((method, self.path, self.headers.get("Range", "")))
        content = told.files.get(path)
        if content is None:
            self.send_error(404)
        elif isinstance(content, int):
            self.send_error(content)
        elif isinstance(content, str):
            self.send_response(302)
            self.send_header("Location", content)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.sent(content, method)

    def sent(self, content, method):
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        body = content[int(first) : int(last or len(content)) + 1] if first else content
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(files):
    """Serve contents by path: bytes, a text to redirect to, or the number of an error; yields the server."""
    told = FileServer(files=files)
    with web_server(type("ToldHandler", (WebHandler,), {"told": told})) as server:
        told.address = server.address
        yield told
