# One image for the gateway, the pages, the worker and beat. Debian, not Alpine: wheels only.
FROM python:3.13-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && \
    /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt

FROM python:3.13-slim-bookworm
RUN useradd --system --create-home --home-dir /data --uid 10001 gateway
COPY --from=build /venv /venv
WORKDIR /app
COPY --chown=root:root . .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 COPILOT_DATA_DIR=/data
USER gateway
VOLUME /data
EXPOSE 4141
HEALTHCHECK --interval=30s --timeout=5s CMD \
    python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:4141/healthz', timeout=4)"
CMD ["python", "manage.py", "start", "--host", "0.0.0.0"]
