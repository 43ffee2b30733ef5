# The broker as an image: a build stage that makes a virtual environment, and a final stage that only runs it.
# Build: make image. Without a registry and without a package index: deploy/container/build-offline.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# A folder of wheels inside the context (say `wheels`); empty takes them from the package index that pip is set up for.
ARG WHEELS=
# Fixed times in archives and hash-checked bytecode: the same source gives the same files.
ENV SOURCE_DATE_EPOCH=315532800 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY . .
RUN python3 -m venv /tools \
    && python3 -m venv --without-pip /opt/broker \
    && if [ -n "${WHEELS}" ]; then export PIP_NO_INDEX=1 PIP_FIND_LINKS="/source/${WHEELS}"; fi \
    && export PIP_ONLY_BINARY=:all: PIP_NO_DEPS=1 \
    && /tools/bin/pip install --require-hashes -r requirements-build.lock \
    && /tools/bin/pip wheel --no-build-isolation --no-index --wheel-dir /dist . \
    && /tools/bin/pip --python /opt/broker/bin/python install --require-hashes -r requirements.lock \
    && /tools/bin/pip --python /opt/broker/bin/python install --no-index /dist/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="Lightsail Credential Broker" \
      org.opencontainers.image.description="Short-lived SSH and RDP credentials for Amazon Lightsail, decided by policy and proved by an audit log"
RUN useradd --no-log-init --uid 10001 --user-group --no-create-home --home-dir /var/lib/broker --shell /usr/sbin/nologin broker \
    && install -d -o broker -g broker -m 0700 /var/lib/broker \
    && install -d -m 0755 /etc/broker
COPY --from=build /opt/broker /opt/broker
COPY deploy/container/healthcheck.py /opt/broker/healthcheck.py
ENV PATH=/opt/broker/bin:/usr/local/bin:/usr/bin:/bin \
    BROKER_CONFIG=/etc/broker/broker.toml \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/broker
USER 10001:10001
VOLUME /var/lib/broker
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python3", "-I", "/opt/broker/healthcheck.py"]
ENTRYPOINT ["broker"]
CMD ["serve", "--config", "/etc/broker/broker.toml"]
