# A Kubernetes node on Debian 13, as a disk that boots on EC2 and in the lab.
#
#   packer init packer/templates/node.pkr.hcl
#   packer build -var kubernetes_version=1.37.2 packer/templates/node.pkr.hcl

packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

variable "kubernetes_version" {
  type        = string
  description = "The version of Kubernetes that the node runs, such as 1.37.2; it must be in components_dir."
  default     = ""
}

variable "components_dir" {
  type        = string
  description = "Where `make components` has put the upstream programs."
  default     = "dist/components"
}

variable "agent_path" {
  type        = string
  description = "The ovenbird-agent program."
  default     = "bin/ovenbird-agent"
}

variable "output" {
  type        = string
  description = "The directory that receives disk.raw."
  default     = ".ovenbird/image"
}

variable "disk_size" {
  type        = string
  description = "The size of the disk; the file is sparse, and a node grows to its volume."
  default     = "6GiB"
}

variable "kernel_arguments" {
  type        = list(string)
  description = "Further arguments for the kernel."
  default     = []
}

source "ovenbird-image" "node" {
  output_directory = var.output
  disk_size        = var.disk_size
  kernel_arguments = var.kernel_arguments
}

build {
  sources = ["source.ovenbird-image.node"]

  provisioner "ovenbird-node" {
    kubernetes_version = var.kubernetes_version
    components_dir     = var.components_dir
    agent_path         = var.agent_path
  }
}
