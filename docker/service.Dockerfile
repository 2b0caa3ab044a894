# The process that answers. From the folder above: docker build -f docker/service.Dockerfile .
FROM python:3.11-slim-bookworm AS built
ARG PIP_NO_INDEX
WORKDIR /source
RUN --mount=type=bind,source=docker/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    python -m venv --without-pip /tools \
    && python -m pip --python /tools/bin/python install --no-cache-dir --no-compile \
        --find-links /wheels -c /constraints.txt hatchling
COPY pyproject.toml README.md LICENSE ./
COPY docker/requirements.py docker/
RUN mkdir /made \
    && python docker/requirements.py > /made/core.txt \
    && for extra in worker s3 service torch; do python docker/requirements.py "$extra" > "/made/$extra.txt"; done
COPY src src
COPY worker worker
COPY service service
RUN /tools/bin/python -m hatchling build -t wheel -d /made/wheel

# In three steps, so that little is made again when little has changed: what all images need is one layer of them all.
FROM python:3.11-slim-bookworm
ARG PIP_NO_INDEX
RUN --mount=type=bind,source=docker/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,from=built,source=/made/core.txt,target=/requirements.txt \
    python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --no-compile \
        --find-links /wheels -c /constraints.txt -r /requirements.txt
RUN --mount=type=bind,source=docker/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,from=built,source=/made/service.txt,target=/requirements.txt \
    python -m pip --python /venv/bin/python install --no-cache-dir --no-compile \
        --find-links /wheels -c /constraints.txt -r /requirements.txt
# Importing compiles: a container with a read-only root would do it anew at each start.
RUN --mount=type=bind,from=built,source=/made/wheel,target=/made \
    python -m pip --python /venv/bin/python install --no-cache-dir --no-compile --no-index --no-deps /made/*.whl \
    && /venv/bin/python -c 'import lastgood.alive, lastgood.cli, lastgood_service.__main__'

# A named volume takes its owner from here, at its first use.
ARG UID=1000
ARG GID=1000
RUN install -d -o "$UID" -g "$GID" -m 700 /state
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 LASTGOOD_STATE_DIR=/state LASTGOOD_ROOTS=/checkpoints
USER $UID:$GID
EXPOSE 8484
CMD ["lastgood", "service"]
