packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

data "ovenbird-release" "newest" {
  channel = "1.37"
}

locals {
  # For example ovenbird-1.37.2-containerd-2.4.2.
  name = "ovenbird-${data.ovenbird-release.newest.kubernetes_version}-containerd-${data.ovenbird-release.newest.components["containerd"]}"
}

source "ovenbird-image" "node" {
  output_directory = "out/${local.name}"
}

build {
  sources = ["source.ovenbird-image.node"]
}
