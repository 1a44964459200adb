# syntax=docker/dockerfile:1
FROM python:3.11.18-slim-bookworm AS build
WORKDIR /build
RUN apt-get update && apt-get install -y --no-install-recommends binutils && python -m venv /opt/wattline
COPY requirements-extras.txt requirements-build.txt ./
RUN /opt/wattline/bin/pip install --no-cache-dir --require-hashes -r requirements-extras.txt -r requirements-build.txt
COPY pyproject.toml README.md wattline.py ./
COPY app app
COPY collectors collectors
COPY migrations migrations
COPY grafana grafana
COPY deploy/slim.py ./
RUN /opt/wattline/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation . \
    && python slim.py /opt/wattline

FROM python:3.11.18-slim-bookworm
# No fonts of the system: reports carry their own, Chinese ones too.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin wattline \
    && install -d -o wattline -g wattline /data
COPY --from=build /opt/wattline /opt/wattline
COPY deploy/sbom.json /usr/share/doc/wattline/sbom.json
ENV PATH=/opt/wattline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WATTLINE_DATA_DIR=/data \
    WATTLINE_FIRST_KEY_FILE=/data/first_key
USER 10001
VOLUME /data
EXPOSE 8080
# Everything is written under /data and /tmp: run with --read-only --tmpfs /tmp --cap-drop ALL.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["wattline"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
