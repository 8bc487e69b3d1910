# The `pabal` command, and nothing else: `docker build --tag pabal:local .`. How to run it: docs/docker.md.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/pabal
# The lock holds what `pabal[all]` requires. It is copied on its own, so that a change of the code alone does not install
# everything again.
COPY requirements/runtime.txt requirements/runtime.txt
RUN /opt/pabal/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/pabal/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/pabal/bin/python -m pip check

FROM python:${PYTHON}-slim-bookworm
RUN groupadd --gid 10001 pabal \
    && useradd --uid 10001 --gid pabal --home-dir /var/lib/pabal --create-home --shell /usr/sbin/nologin pabal
COPY --from=build /opt/pabal /opt/pabal
ENV PATH=/opt/pabal/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PABAL_DATA=/var/lib/pabal
USER 10001:10001
WORKDIR /var/lib/pabal
EXPOSE 8080
# No HEALTHCHECK: only the API listens, and compose.yaml asks it. Another role ends when it cannot go on.
ENTRYPOINT ["pabal"]
CMD ["--help"]
