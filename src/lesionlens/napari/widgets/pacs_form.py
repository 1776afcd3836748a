"""The forms of the archive's dialog: connection and search."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from lesionlens.napari.widgets.parts import flat_button, label, row, show_items, stack
from lesionlens.site.pacs.server import Retrieval, Server

_RETRIEVALS = (
    ("C-GET, else C-MOVE", Retrieval.AUTO),
    ("C-GET", Retrieval.GET),
    ("C-MOVE", Retrieval.MOVE),
)
_MODALITIES = (("MR", "MR"), ("any modality", ""))


class ServerForm(QWidget):
    """Address, and under "Access…" further connection settings."""

    changed = Signal()

    def __init__(self, servers: list[Server]) -> None:
        super().__init__()
        self._servers = {server.address: server for server in servers}
        self._address = QComboBox()
        self._address.setEditable(True)
        self._address.addItems(list(self._servers))
        self._address.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._address.lineEdit().setPlaceholderText(
            "https://pacs.example/dicom-web   or   dicom://AETITLE@host:104"
        )
        self._address.setAccessibleName("Address of the archive")
        self._address.setToolTip(
            "DICOMweb: https://host/dicom-web\nDIMSE: dicom://AETITLE@host:port\n"
            "DIMSE over TLS: dicoms://AETITLE@host:port"
        )
        self._access_button = flat_button("Access…")
        self._access_button.setCheckable(True)
        stack(self, row(self._address, self._access_button, spacing=-1), self._access())
        self.password.setPlaceholderText("from the keyring or LESIONLENS_PACS_PASSWORD")
        self._address.currentTextChanged.connect(self._on_address)
        self._on_address(self._address.currentText())

    def _access(self) -> QWidget:
        card = QFrame()
        card.setProperty("role", "card")
        form = QFormLayout(card)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._user, self.password = QLineEdit(), QLineEdit()
        self.password.setEchoMode(QLineEdit.EchoMode.Password)
        self._ca, self._certificate, self._title = QLineEdit(), QLineEdit(), QLineEdit()
        self._ca.setPlaceholderText("the usual ones (or a PEM file)")
        self._certificate.setPlaceholderText("none (or a PEM file with certificate and key)")
        self._port, self._retrieval = QSpinBox(), QComboBox()
        self._port.setRange(1, 65535)
        show_items(self._retrieval, _RETRIEVALS, Retrieval.AUTO)
        for text, field in (
            ("User (DICOMweb)", self._user),
            ("Password (in the keyring)", self.password),
            ("Trusted certificates", self._ca),
            ("Client certificate", self._certificate),
            ("Local AE title (DIMSE)", self._title),
            ("Local port (C-MOVE)", self._port),
            ("Fetch by (DIMSE)", self._retrieval),
        ):
            form.addRow(label(text), field)
        card.hide()
        self._access_button.toggled.connect(card.setVisible)
        return card

    def server(self) -> Server:
        """Return the settings, without the password."""
        return Server(
            address=self._address.currentText().strip(),
            user=self._user.text().strip(),
            ca=self._ca.text().strip(),
            certificate=self._certificate.text().strip(),
            title=self._title.text().strip(),
            port=self._port.value(),
            by=str(self._retrieval.currentData()),
        )

    def show_server(self, server: Server) -> None:
        """Fill the fields in."""
        self._servers[server.address] = server
        self._address.setCurrentText(server.address)
        self._fill(server)

    def _on_address(self, address: str) -> None:
        stored = self._servers.get(address.strip())
        if stored is not None:
            self._fill(stored)
        elif not self._title.text():
            self._fill(Server())
        self.password.clear()  # it was typed for another archive
        self.changed.emit()

    def _fill(self, server: Server) -> None:
        self._user.setText(server.user)
        self._ca.setText(server.ca)
        self._certificate.setText(server.certificate)
        self._title.setText(server.title)
        self._port.setValue(server.port)
        self._retrieval.setCurrentIndex(self._retrieval.findData(server.by))


class SearchForm(QWidget):
    """Patient ID, name, dates and modality."""

    search_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.fields = {name: QLineEdit() for name in ("patient_id", "name", "first", "last")}
        hints = {
            "patient_id": "patient ID",
            "name": "name, or its beginning",
            "first": "from day",
            "last": "to day",
        }
        self._modality = QComboBox()
        show_items(self._modality, _MODALITIES, "MR")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for name, field in self.fields.items():
            field.setPlaceholderText(hints[name])
            field.setAccessibleName(hints[name])
            if name in ("first", "last"):
                field.setToolTip("2026-01-05; the same day twice for one day")
            field.returnPressed.connect(self.search_requested)
            layout.addWidget(field, 3 if name in ("patient_id", "name") else 2)
        layout.addWidget(self._modality)

    def query_fields(self) -> dict[str, str]:
        """Return the search fields by name."""
        texts = {name: field.text() for name, field in self.fields.items()}
        return texts | {"modality": str(self._modality.currentData())}
