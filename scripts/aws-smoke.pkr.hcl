# What scripts/aws-smoke bakes and publishes.

packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

variable "channel" {
  type = string
}

variable "name" {
  type = string
}

variable "region" {
  type = string
}

variable "kms_key" {
  type = string
}

variable "work" {
  type = string
}

data "ovenbird-release" "this" {
  channel = var.channel
}

source "ovenbird-image" "smoke" {
  output_directory = "${var.work}/image"
}

build {
  sources = ["source.ovenbird-image.smoke"]

  provisioner "ovenbird-node" {
    kubernetes_version = data.ovenbird-release.this.kubernetes_version
    components_dir     = "dist/components"
    agent_path         = "bin/ovenbird-agent"
  }

  post-processors {
    # A name and a journal of its own: nothing of another build is found, or removed.
    post-processor "ovenbird-ami" {
      region            = var.region
      ami_name          = var.name
      encrypt_boot      = var.kms_key != ""
      kms_key_id        = var.kms_key
      parent_snapshot   = "none"
      journal_directory = "${var.work}/journal"
      tags = {
        ovenbird-smoke = var.name
      }
    }
    post-processor "manifest" {
      output = "${var.work}/manifest.json"
      custom_data = {
        kubernetes_version = data.ovenbird-release.this.kubernetes_version
      }
    }
  }
}
