# The course in a container, on the CPU:
#   docker build -t anytext-course .
#   docker run --rm -p 8888:8888 -v anytext-work:/home/reader/course/work anytext-course
# then open the address that JupyterLab prints.  Notebooks that you change lie in the volume anytext-work.
# With an NVIDIA GPU: --build-arg TORCH_INDEX_URL= (torch then comes with CUDA), and docker run --gpus all.
FROM python:3.12-slim-bookworm

# libgl1, libglib2.0-0, libxcb1: OpenCV; tesseract-ocr: the second judge; make, git: the course's commands
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git libgl1 libglib2.0-0 libxcb1 make tesseract-ocr \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 reader
COPY --chown=reader:reader . /home/reader/course
USER reader
WORKDIR /home/reader/course

ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN mkdir -p work && TORCH_INDEX_URL="$TORCH_INDEX_URL" make setup

EXPOSE 8888
CMD ["make", "lab", "LAB_ARGS=--ip=0.0.0.0 --no-browser"]
