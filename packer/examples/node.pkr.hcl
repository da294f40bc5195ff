packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

variable "host" {
  type        = string
  description = "A running Debian 13 machine. In place of it put source.amazon-ebs or any other."
  default     = "node.example.com"
}

source "null" "debian" {
  ssh_host       = var.host
  ssh_username   = "admin"
  ssh_agent_auth = true
}

build {
  sources = ["source.null.debian"]

  provisioner "ovenbird-node" {
    kubernetes_version = "1.37.2"
    components_dir     = "dist/components"
    agent_path         = "bin/ovenbird-agent"
  }
}
