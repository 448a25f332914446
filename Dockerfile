# MoDA on CPUs: the web page, and every command. See docs/docker.md.
FROM python:3.13.5-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/moda
ENV PATH=/opt/moda/bin:$PATH
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
COPY examples ./examples
RUN pip install --constraint constraints.txt ".[web]"

FROM python:3.13.5-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends espeak-ng libespeak-ng1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --home-dir /var/lib/moda --uid 10001 moda
COPY --from=build /opt/moda /opt/moda
ENV PATH=/opt/moda/bin:$PATH NUMBA_CACHE_DIR=/tmp/numba MODA_HOME=/var/lib/moda/models
USER moda
RUN mkdir /var/lib/moda/models
WORKDIR /var/lib/moda
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["moda"]
CMD ["web", "--host", "0.0.0.0", "--port", "7860"]
