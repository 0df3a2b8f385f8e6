# What `inv bench` compares with: the same wheels, installed the usual way. Not an image of ours.
FROM base
ARG VARIANT
USER 0:0
RUN --network=none --mount=type=bind,from=wheels,target=/mnt/wheels \
    pip=$(echo /mnt/wheels/tensorflow-$VARIANT/runtime/pip-*.whl) && \
    python3 "$pip/pip" install --no-cache-dir --no-deps /mnt/wheels/*-$VARIANT/*/*.whl
USER 1000:100
