packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

source "ovenbird-image" "plain" {
  output_directory = "out"
  extra_packages   = ["nfs-common"]
  kernel_arguments = ["mitigations=auto"]
}

build {
  sources = ["source.ovenbird-image.plain"]

  provisioner "file" {
    content     = "Baked by Ovenbird.\n"
    destination = "/etc/motd"
  }

  provisioner "shell" {
    inline = ["useradd --system --no-create-home --shell /usr/sbin/nologin baker"]
  }
}
