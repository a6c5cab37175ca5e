def read(path): raise ValueError
def read_archive(path): raise ValueError
