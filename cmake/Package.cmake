# The Debian package: `cpack -G DEB` in a build folder. One package with the program and the library;
# the libraries that the program needs are found by dpkg-shlibdeps.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME baleen)
set(CPACK_PACKAGE_VENDOR "The Baleen authors")
set(CPACK_PACKAGE_CONTACT "The Baleen authors <baleen@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# Only those who link baleen::engine need these.
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libfmt-dev, libsimdjson-dev")
include(CPack)
