"""To come."""


def draw(found, folder):
    pass
