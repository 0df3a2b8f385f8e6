# What `inv bench` compares with: the same wheels, installed the usual way. Not an image of ours.
FROM base
USER 0:0
RUN --network=none --mount=type=bind,from=wheels,target=/mnt/wheels \
    python3 /mnt/wheels/tensorflow-cpu/runtime/pip-*.whl/pip install --no-cache-dir --no-index \
    --find-links /mnt/wheels/tensorflow-cpu/runtime --find-links /mnt/wheels/tensorflow-cpu/keras \
    --find-links /mnt/wheels/tensorflow-cpu/tensorflow --find-links /mnt/wheels/jupyter-cpu/science \
    --find-links /mnt/wheels/jupyter-cpu/jupyter tensorflow-cpu jupyterlab
USER 1000:100
