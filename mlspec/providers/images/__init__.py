"""Images of services: built of a release with podman, buildah or docker, and pushed.

`builder` the command lines of the three programs
`build`   a release in; an image in a registry, named by its digest, and its bill of materials out
`target`  a registry as the place that a deployment is brought to
`scrub`   takes out what differs between two builds of one release
`bom`     what is in an image, as CycloneDX
"""
