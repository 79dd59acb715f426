"""Skull base, face and neck of the head template, drawn from simple shapes in MNI space.

A network that never saw petrous ridges, air cells, orbits and muscle calls them blood; so the template carries them.
Positions are those of the bony landmarks around the ICBM152 brain; nothing here is measured on a patient.
"""

import numpy as np
from scipy import ndimage

FAT, MUSCLE, AIR = -0.09, 0.055, -0.98  # HU / 1000


class Shapes:
    """Inside tests of shapes given in MNI mm, on the grid of three coordinate arrays that broadcast to (X, Y, Z)."""

    def __init__(self, x: np.ndarray, y: np.ndarray, z: np.ndarray):
        self.x, self.y, self.z = x, y, z

    def ellipsoid(self, center, radii, yaw_deg: float = 0.0) -> np.ndarray:
        """Squared normalized distance from the center, below 1 inside; yaw turns the long axis about z."""
        dx, dy, dz = self.x - center[0], self.y - center[1], self.z - center[2]
        if yaw_deg:
            cosine, sine = float(np.cos(np.radians(yaw_deg))), float(np.sin(np.radians(yaw_deg)))
            dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
        return (dx / radii[0]) ** 2 + (dy / radii[1]) ** 2 + (dz / radii[2]) ** 2

    def capsule_mm(self, start, end) -> np.ndarray:
        """Distance from the line between two points, mm."""
        start, axis = np.array(start, np.float32), np.subtract(end, start, dtype=np.float32)
        dx, dy, dz = self.x - start[0], self.y - start[1], self.z - start[2]
        along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / (axis @ axis), 0, 1)
        return np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2)


def face_mm(shapes: Shapes) -> np.ndarray:
    """Distance to the skin of face, ears and neck, mm, negative inside (roughly, away from the surface)."""
    parts = [
        (np.sqrt(shapes.ellipsoid((0, 22, -76), (70, 70, 72))) - 1) * 66,
        (np.sqrt(shapes.ellipsoid((0, 34, -40), (60, 51, 46))) - 1) * 50,  # brow and cheeks
        (np.sqrt(shapes.ellipsoid((0, 88, -62), (13, 22, 22))) - 1) * 14,  # nose
        np.sqrt((shapes.x / 66) ** 2 + ((shapes.y + 34) / 68) ** 2 + 0 * shapes.z) * 66
        - 66
        + np.maximum(shapes.z + 48, 0),
    ]
    for side in (-1, 1):
        parts.append((np.sqrt(shapes.ellipsoid((side * 79, -26, -42), (3.5, 13, 26))) - 1) * 4)  # ear
        parts.append((np.sqrt(shapes.ellipsoid((side * 61, 20, -14), (13, 36, 36))) - 1) * 13)  # temporal muscle
    nearest = np.minimum.reduce(np.broadcast_arrays(*parts))
    return ndimage.gaussian_filter(nearest.astype(np.float32), 1.0)


def _noise(shape: tuple[int, ...], sigma: float, seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).standard_normal([n // 2 + 1 for n in shape]).astype(np.float32)
    small = ndimage.gaussian_filter(small, sigma / 2)
    return (small / small.std()).repeat(2, 0).repeat(2, 1).repeat(2, 2)[: shape[0], : shape[1], : shape[2]]


def base(shapes: Shapes, outside_mm: np.ndarray, skin_mm: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """HU / 1000 of all that is neither brain nor vault; zero inside the skull save for bone that reaches in.

    Parameters
    ----------
    outside_mm : distance to the inner table, negative inside the skull.
    skin_mm : distance to the skin, negative inside the head.
    tissue : grey plus white matter, 0..1: bone must not cover brain.
    """
    x, y, z = shapes.x, shapes.y, shapes.z
    free = outside_mm > 0
    gap = tissue < 0.3
    speckle = _noise(outside_mm.shape, 1.6, 152)
    planes = _noise(outside_mm.shape, 4.0, 153)
    # Muscles parted by planes of fat, a layer of fat under the skin.
    soft = np.where(np.abs(planes) < 0.22, FAT, MUSCLE)
    soft = np.where((skin_mm > -7) & (np.abs(x) < 72), FAT, soft)
    temple = np.minimum(shapes.ellipsoid((61, 20, -14), (13, 36, 36)), shapes.ellipsoid((-61, 20, -14), (13, 36, 36)))
    soft = np.where((temple < 0.72) & (z > -50), MUSCLE, soft)
    # Above the base plane lies the scalp: fat.
    scalp = (z > -28 + 0.4 * y) & (temple >= 0.72)
    hu = np.where(free, np.where(scalp, FAT, soft), 0).astype(np.float32)

    def put(inside: np.ndarray, value, where: np.ndarray = free) -> None:
        chosen = inside & where
        hu[chosen] = value if np.ndim(value) == 0 else value[chosen]

    spongy = np.where(speckle > -0.2, 0.75, 0.35).astype(np.float32)
    below = z < -22 + 0.4 * y
    put((outside_mm < 4.5) & below & (speckle > -1.7), spongy + 0.2 * (outside_mm < 1.5))
    put((shapes.ellipsoid((0, -26, -86), (30, 16, 10)) < 1), spongy)  # atlas
    put((shapes.ellipsoid((0, -38, -86), (15, 14, 30)) < 1), 0.01)  # canal of the spinal cord
    put((shapes.ellipsoid((0, -37, -86), (6.5, 6, 30)) < 1), 0.032)
    put((shapes.ellipsoid((0, -17, -84), (5, 5, 11)) < 1), 0.8)  # dens
    clivus = shapes.capsule_mm((0, -4, -32), (0, -22, -62))
    put(clivus < 7, spongy)
    for side in (-1, 1):
        put(shapes.ellipsoid((side * 14, 12, -70), (3, 7, 17)) < 1, 0.8)  # pterygoid plate
        put(shapes.ellipsoid((side * 50, 2, -84), (3.5, 14, 26)) < 1, 0.9)  # ramus of the mandible
        put(shapes.ellipsoid((side * 50, -10, -53), (9, 5, 5)) < 1, 0.9)  # its condyle
        put(shapes.capsule_mm((side * 52, 48, -52), (side * 67, -4, -49)) < 3, 0.95)  # zygomatic arch
        put(shapes.ellipsoid((side * 47, 58, -52), (7, 7, 12)) < 1, 0.85)
        sinus = shapes.ellipsoid((side * 29, 48, -72), (14, 18, 17))
        put(sinus < 1.35, 0.55)
        put(sinus < 1, AIR)  # maxillary sinus
        _orbit(shapes, side, put, free)
        _temporal_bone(shapes, side, put, gap, outside_mm, speckle)
        put(shapes.ellipsoid((side * 9, 79, 2), (10, 6, 13)) < 1, AIR, free & (outside_mm > 2.5))  # frontal sinus
        put(shapes.capsule_mm((side * 13, 12, -26), (side * 40, 22, -25)) < 2.6, 0.9, gap)  # sphenoid wing
        put(shapes.capsule_mm((side * 40, 22, -25), (side * 60, 24, -24)) < 2.6, 0.9, gap)
        put(shapes.ellipsoid((side * 11, 9, -26), (2.5, 4, 2.5)) < 1, 0.95, gap)  # anterior clinoid
    cells = np.minimum(np.abs(np.sin(x * 0.45 + 0.6)), np.abs(np.sin(y * 0.33 + x * 0.1)))
    put((np.abs(x) < 13) & (y > 26) & (y < 68) & (z > -54) & (z < -30), np.where(cells < 0.2, 0.3, AIR) + 0 * z)
    nose = shapes.ellipsoid((0, 54, -68), (15, 36, 24))
    put(nose < 1.15, 0.35)
    put(nose < 1, AIR)
    put((np.abs(x) < 1.6) & (nose < 1), 0.12)  # septum
    for side in (-1, 1):
        put(shapes.ellipsoid((side * 8, 50, -74), (3.5, 22, 5)) < 1, 0.05)  # turbinates
        put(shapes.ellipsoid((side * 7, 50, -60), (2.5, 18, 5)) < 1, 0.05)
    sphenoid = shapes.ellipsoid((0, 17, -43), (15, 13, 10))
    put(sphenoid < 1.4, 0.6)
    put(sphenoid < 1, AIR)
    put((np.abs(x + 1.5) < 1.2) & (sphenoid < 1), 0.3)
    put(shapes.ellipsoid((0, 8, -76), (13, 9, 15)) < 1, AIR)  # nasopharynx
    put(shapes.ellipsoid((0, 4, -35), (12, 13, 7)) < 1, 0.75, gap)  # sella
    put(shapes.ellipsoid((0, 3, -32), (7, 7, 5.5)) < 1, 0.05, gap | free)  # pituitary gland
    put(shapes.ellipsoid((0, -7, -29), (7, 2.2, 4)) < 1, 0.8, gap)  # dorsum sellae
    for side in (-1, 1):
        put(shapes.ellipsoid((side * 12, 2, -33), (3.5, 9, 4.5)) < 1, 0.055, gap | free)  # cavernous sinus
    put((np.abs(x) < 1.8) & (np.abs(y - 62) < 8) & (np.abs(z + 22) < 8) & np.ones_like(gap), 0.7, gap)  # crista galli
    return ndimage.gaussian_filter(hu, 0.45)


def _orbit(shapes: Shapes, side: int, put, free: np.ndarray) -> None:
    cone = shapes.ellipsoid((side * 29, 48, -38), (17, 31, 17), yaw_deg=-side * 20)
    put((cone < 1.3) & (shapes.y < 72), 0.75)
    put(cone < 1, FAT)
    apex, globe = (side * 17, 22, -34), (side * 33, 62, -38)
    put(shapes.capsule_mm(apex, globe) < 2.1, 0.04)  # optic nerve
    for shift in (-10, 10):  # straight muscles
        put(shapes.capsule_mm(apex, (globe[0] + shift, globe[1] - 4, globe[2])) < 2.0, 0.05)
        put(shapes.capsule_mm(apex, (globe[0], globe[1] - 4, globe[2] + shift)) < 2.0, 0.05)
    put(shapes.ellipsoid(globe, (12.5, 12.5, 12.5)) < 1, 0.05, free | True)
    put(shapes.ellipsoid(globe, (11, 11, 11)) < 1, 0.012, free | True)
    put(shapes.ellipsoid((globe[0], globe[1] + 8, globe[2]), (4.8, 2.6, 4.8)) < 1, 0.08)


def _temporal_bone(shapes: Shapes, side: int, put, gap, outside_mm, speckle) -> None:
    ridge = shapes.ellipsoid((side * 33, -25, -39), (27, 8.5, 9), yaw_deg=-side * 30)
    put(ridge < 1, 1.25, gap)
    put(shapes.ellipsoid((side * 24, -31, -37), (6, 2.2, 2.2), yaw_deg=-side * 30) < 1, 0.02, gap)  # auditory canal
    put(shapes.ellipsoid((side * 42, -24, -42), (5, 4, 5)) < 1, -0.75, gap)  # middle ear
    mastoid = shapes.ellipsoid((side * 56, -38, -50), (12, 16, 19))
    put(mastoid < 1.2, 0.85)
    put((mastoid < 0.9) & (speckle > -0.1) & (outside_mm > 2), -0.75)  # air cells
    put(shapes.capsule_mm((side * 44, -23, -45), (side * 82, -23, -47)) < 3.8, AIR)  # outer ear canal
